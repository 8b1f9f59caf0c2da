# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""From a checkpoint and a folder to numbers: what tools/evaluate.py does."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ibot_mm.checkpoint import CheckpointError
from ibot_mm.evaluation import Options
from ibot_mm.evaluation_request import Request, load_splits, tell_two_views
from ibot_mm.feature_extraction import KINDS, extract
from ibot_mm.frozen_evaluation import evaluate_frozen
from ibot_mm.frozen_network import load_frozen_network, load_projection_head
from ibot_mm.models import IBOTNeck

TOP = Path(__file__).parents[2]
OPTIONS = Options(ks=(1, 3), epochs=5, shares=(0.5,), learning_rates=(0.1, 1.0))


@pytest.fixture
def request_(checkpoint, splits_folder, tmp_path):
    def make(**changes):
        given = dict(
            checkpoint=str(checkpoint),
            data=str(splits_folder),
            out=str(tmp_path / 'out'),
            image_size=16,
            num_workers=0,
        )
        return Request(**(given | changes))

    return make


def count_passes(monkeypatch):
    """Images that went through a network from now on."""
    from ibot_mm.evaluation import FeatureExtractor

    seen = []
    forward = FeatureExtractor.forward

    def counting(self, images):
        seen.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(FeatureExtractor, 'forward', counting)
    return seen


def test_all_protocols_read_one_pass_over_the_images(request_, monkeypatch, tmp_path):
    seen = count_passes(monkeypatch)
    protocols = ('knn', 'linear', 'logistic', 'clustering', 'few_labels')
    results = evaluate_frozen(request_(protocols=protocols, baselines=True), OPTIONS)
    assert sum(seen) == 2 * (24 + 12)  # trained and untrained
    assert set(results['summary']) == {'teacher', 'untrained', 'pixels'}
    assert json.loads((tmp_path / 'out/results.json').read_text()) == json.loads(
        json.dumps(results)
    )
    assert torch.__version__.startswith(results['versions']['torch'])
    by_protocol = {row['protocol']: row['value'] for row in results['summary']['pixels']}
    assert by_protocol['knn'] > 90  # the classes are colors
    seen.clear()
    again = evaluate_frozen(request_(protocols=('knn',)), OPTIONS)
    assert not seen  # found in the cache
    assert again['measurements']['teacher']['knn'] == results['measurements']['teacher']['knn']


def test_other_network_data_and_view_are_extracted_anew(
    request_, monkeypatch, splits_folder, tmp_path
):
    seen = count_passes(monkeypatch)
    other = shutil.copytree(splits_folder, tmp_path / 'other')
    (other / 'train/class_0/0.png').unlink()
    for changes in ({}, dict(network='student'), dict(image_size=24), dict(data=str(other))):
        evaluate_frozen(request_(protocols=('knn',), **changes), OPTIONS)
    assert sum(seen) == 36 + 36 + 36 + 23  # the held-out images of the last are the same


def test_interrupted_extraction_goes_on(request_, monkeypatch):
    from ibot_mm.evaluation import FeatureCache

    write, calls = FeatureCache.write, []

    def breaking(self, rows, features):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(rows))
        write(self, rows, features)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureCache, 'write', breaking)
        with pytest.raises(KeyboardInterrupt):
            evaluate_frozen(request_(protocols=('knn',), batch_size=5), OPTIONS)
    seen = count_passes(monkeypatch)
    results = evaluate_frozen(request_(protocols=('knn',), batch_size=5), OPTIONS)
    assert sum(seen) == 36 - 10
    fresh = evaluate_frozen(request_(protocols=('knn',), out=request_().out + '2'), OPTIONS)
    assert fresh['measurements'] == results['measurements']


def test_config_and_checkpoint_alone_give_the_same(request_, checkpoint, pretrain_config):
    alone = load_frozen_network(checkpoint)
    built = load_frozen_network(checkpoint, config=pretrain_config)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(alone.backbone(images)[-1], built.backbone(images)[-1])
    cls = torch.randn(3, 16)
    torch.testing.assert_close(alone.project()(cls), built.project()(cls))
    student = load_frozen_network(checkpoint, 'student')
    assert not torch.allclose(student.backbone(images)[-1], alone.backbone(images)[-1])
    assert not torch.allclose(student.project()(cls), alone.project()(cls))


@pytest.mark.parametrize('norm', ['LN', 'BN1d'])
def test_the_head_beside_an_mlp_for_patches(norm):
    options = dict(hidden_channels=12, bottleneck_channels=6, norm_cfg=dict(type=norm))
    neck = IBOTNeck(16, 20, 24, shared_head=False, shared_mlp=False, **options).eval()
    tensors = {f'teacher.neck.{name}': t for name, t in neck.state_dict().items()}
    found = load_projection_head(tensors, 'teacher.backbone.').eval()
    tokens = torch.randn(3, 5, 16)
    torch.testing.assert_close(found(tokens), neck(tokens))  # [CLS], then patches


@pytest.mark.parametrize('published', [False, True])
def test_the_head_with_prototypes_of_patches(published):
    options = dict(hidden_channels=12, bottleneck_channels=6)
    neck = IBOTNeck(16, 20, 24, shared_head=False, **options).eval()
    state = neck.state_dict()
    if published:
        stem, gain = 'parametrizations.weight.original', {'0': 'weight_g', '1': 'weight_v'}
        names = {f'cls_prototypes.{stem}{n}': f'last_layer.{new}' for n, new in gain.items()}
        names |= {f'patch_prototypes.{stem}{n}': f'last_layer2.{new}' for n, new in gain.items()}
        names |= {
            f'layers.{i}.{part}': f'mlp.{2 * i}.{part}'
            for i in range(3)
            for part in ('weight', 'bias')
        }
        state = {f'head.{names[name]}': tensor for name, tensor in state.items()}
    else:
        state = {f'neck.{name}': tensor for name, tensor in state.items()}
    tensors = {f'teacher.{name}': tensor for name, tensor in state.items()}
    found = load_projection_head(tensors, 'teacher.backbone.').eval()
    tokens = torch.randn(3, 5, 16)
    torch.testing.assert_close(found(tokens), neck(tokens))


@pytest.mark.parametrize('kind', KINDS)
def test_extraction(kind, checkpoint, splits_folder, tmp_path):
    options = dict(kind=kind, image_size=16, num_workers=0, batch_size=5)
    features, names = extract(checkpoint, splits_folder / 'val', **options)
    shape = dict(cls=(16,), patch_mean=(16,), cls_patch_mean=(32,), patches=(4, 16))[kind]
    assert features.shape == (12, *shape)
    assert names[0] == 'class_0/0.png' and len(names) == 12
    path, _ = extract(checkpoint, splits_folder / 'val', tmp_path / 'x.npy', **options)
    assert np.array_equal(np.load(path), features)


def spoiled(checkpoint, path, change):
    content = torch.load(checkpoint)
    change(content['state_dict'])
    torch.save(content, path)
    return path


def test_features_that_are_not_finite_name_the_image(request_, checkpoint, splits_folder, tmp_path):
    def change(state):
        state['teacher.backbone.ln1.bias'][3] = float('nan')

    path = spoiled(checkpoint, tmp_path / 'nan.pth', change)
    for run in (
        lambda: evaluate_frozen(request_(checkpoint=str(path), protocols=('knn',)), OPTIONS),
        lambda: extract(path, splits_folder / 'train', image_size=16, num_workers=0),
    ):
        with pytest.raises(FloatingPointError, match=r'train/class_0/0\.png are not finite'):
            run()


def test_weights_that_match_nothing_are_refused(request_, pretrain_config, tmp_path):
    torch.save(dict(state_dict=dict(weight=torch.zeros(2, 2))), tmp_path / 'other.pth')
    for config in (None, str(pretrain_config)):
        given = request_(checkpoint=str(tmp_path / 'other.pth'), config=config)
        with pytest.raises(CheckpointError, match='holds no ViT|not a checkpoint of the model'):
            evaluate_frozen(given, OPTIONS)


def test_checkpoint_without_projection_head_is_refused_for_clustering(
    request_, checkpoint, tmp_path, monkeypatch
):
    content = torch.load(checkpoint)
    state = {n: t for n, t in content['state_dict'].items() if n.startswith('backbone.')}
    torch.save(content | dict(state_dict=state), tmp_path / 'backbone.pth')
    seen = count_passes(monkeypatch)
    given = request_(checkpoint=str(tmp_path / 'backbone.pth'), protocols=('knn', 'clustering'))
    with pytest.raises(ValueError, match='does not have one: give the full checkpoint'):
        evaluate_frozen(given, OPTIONS)
    assert not seen


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(data=None), 'no images: give --data ROOT'),
        (dict(checkpoint='none'), 'needs --config'),
        (dict(network='head'), "must be one of .* got 'head'"),
        (dict(protocols=('knn',), num_blocks=2), 'which is not asked for'),
        (dict(protocols=('cnn',)), "unknown protocol 'cnn'"),
        (dict(dtype='int8'), "got 'int8'"),
    ],
)
def test_bad_requests_are_refused(request_, changes, message):
    with pytest.raises(ValueError, match=message):
        evaluate_frozen(request_(**changes), OPTIONS)


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(kind='head'), 'kind must be one of'),
        (dict(dtype='int8'), "got 'int8'"),
        (dict(out='x.csv'), r'written to \.npy, .* got .x\.csv'),
        (dict(folder='/nowhere'), 'there is no folder /nowhere'),
    ],
)
def test_bad_extractions_are_refused(checkpoint, splits_folder, changes, message):
    given = dict(checkpoint=checkpoint, folder=splits_folder, image_size=16) | changes
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        extract(**given)


@pytest.mark.slow
def test_several_processes_give_the_same(
    request_, checkpoint, splits_folder, call_together, tmp_path
):
    call_together(
        *('tools/evaluate.py', checkpoint, '--data', splits_folder),
        *('--image-size', 16, '--num-workers', 0, '--batch-size', 5, '--ks', 1, 3),
        *('--protocols', 'knn', '--launcher', 'pytorch', '--out', tmp_path / 'two'),
    )
    assert (tmp_path / 'two/results.png').exists()
    found = json.loads((tmp_path / 'two/results.json').read_text())
    expected = evaluate_frozen(request_(protocols=('knn',)), OPTIONS)
    assert found['measurements'] == expected['measurements']


def test_another_view_than_that_of_the_training_is_said(request_, pretrain_config, monkeypatch):
    told = []
    monkeypatch.setattr(
        'mmengine.logging.print_log', lambda message, *args, **kwargs: told.append(message)
    )
    load_splits(request_(config=str(pretrain_config)))  # 16 pixels are asked for
    assert 'give --image-size' not in ' '.join(told)
    load_splits(request_(config=str(pretrain_config), image_size=224))
    assert 'give --image-size 16' in ' '.join(told)


def test_a_classifier_fitted_to_other_views_than_those_of_the_tasks_is_said(
    request_, pretrain_config, splits_folder, monkeypatch
):
    told = []
    monkeypatch.setattr(
        'mmengine.logging.print_log', lambda message, *args, **kwargs: told.append(message)
    )
    request = request_(config=str(pretrain_config), protocols=('shuffle',))
    tell_two_views(request)
    assert told == []
    of_config = replace(request, data=None, folders=dict(shuffle=str(splits_folder)))
    tell_two_views(of_config)
    assert 'give --data ROOT for the same view in both' in told[0]


@pytest.mark.parametrize('tool', ['evaluate', 'extract_features'])
def test_bad_input_is_one_line(tool, call, splits_folder, tmp_path):
    out = ['--out', tmp_path / 'features.npy']
    data = ['--data', splits_folder] if tool == 'evaluate' else [splits_folder]
    result = call(f'tools/{tool}.py', 'none.pth', *data, *out, may_fail=True)
    assert result.returncode == 1
    assert f'{tool}: The checkpoint none.pth is not there' in result.stderr
    assert 'Traceback' not in result.stderr
