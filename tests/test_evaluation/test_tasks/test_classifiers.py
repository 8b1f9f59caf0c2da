# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Where the classifier of robustness comes from: a probe that is fitted, or a checkpoint's head."""

import json
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from ibot_mm.evaluation import DataError, Options, imagenet_classes
from ibot_mm.evaluation_request import Request
from ibot_mm.frozen_evaluation import evaluate_frozen
from ibot_mm.frozen_network import load_frozen_network

OPTIONS = Options(epochs=20, learning_rates=(0.1, 1.0))
CLASSES = ('class_0', 'class_1', 'class_2')


@pytest.fixture
def request_(checkpoint, splits_folder, tmp_path):
    def make(*protocols, **changes):
        given = dict(
            checkpoint=str(checkpoint),
            data=str(splits_folder),
            out=str(tmp_path / 'out'),
            protocols=protocols,
            image_size=16,
            num_workers=0,
        )
        return Request(**(given | changes))

    return make


@pytest.fixture(scope='module')
def linear_config(tmp_path_factory):
    """A classifier of mmpretrain on the tiny network, as configs/cls/linear_* have it."""
    model = dict(
        type='mmpretrain.ImageClassifier',
        data_preprocessor=dict(
            type='mmpretrain.ClsDataPreprocessor',
            num_classes=3,
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            to_rgb=True,
        ),
        backbone=dict(
            type='ibot_mm.FrozenFeatures',
            backbone=dict(
                type='ibot_mm.MaskedVisionTransformer',
                arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
                img_size=16,
                patch_size=8,
                mask_token=False,
            ),
        ),
        head=dict(
            type='ibot_mm.LinearSweepHead',
            num_classes=3,
            in_channels=16,
            learning_rates=(0.1, 1.0),
        ),
    )
    path = tmp_path_factory.mktemp('linear') / 'linear.py'
    Config(dict(model=model, default_scope='mmpretrain')).dump(path)
    return path


def save_classifier(config, path, best=1, names=CLASSES):
    """Only the best of its heads tells the classes apart, by the first channels of [CLS]."""
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    model.head.weight.data.zero_()
    model.head.weight.data[1, :, :3] = torch.eye(3)
    model.head.best_head.fill_(best)
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=names))), path
    )
    return model.eval()


def test_a_probe_is_fitted_once_and_agrees_with_the_protocol(request_, tmp_path):
    results = evaluate_frozen(request_('linear', 'shuffle', 'occlusion', baselines=True), OPTIONS)
    for title in ('teacher', 'untrained'):
        found = {n: results['measurements'][title][n] for n in ('linear', 'shuffle', 'occlusion')}
        best = max(m['metrics']['top1'] for m in found['linear'])
        whole = found['shuffle'][0]
        assert whole['setting']['grid'] == '1x1'
        assert found['occlusion'][0]['setting']['kind'] == 'random 0'
        # Bilinear in place of bicubic, on 12 images.
        assert abs(whole['metrics']['top1'] - best) < 20
        assert found['occlusion'][0]['metrics'] == whole['metrics']
    assert 'shuffle' not in results['measurements']['pixels']
    probes = sorted((tmp_path / 'out/probes').iterdir())
    assert len(probes) == 2  # of both networks
    stored = torch.load(probes[0])
    assert stored['weight'].shape == (3, 32) and stored['classes'] == list(CLASSES)
    times = [path.stat().st_mtime_ns for path in probes]
    again = evaluate_frozen(request_('shuffle'), OPTIONS)
    assert (
        again['measurements']['teacher']['shuffle'] == results['measurements']['teacher']['shuffle']
    )
    assert [path.stat().st_mtime_ns for path in probes] == times
    evaluate_frozen(request_('shuffle'), Options(epochs=3, learning_rates=(0.1,)))
    assert len(list((tmp_path / 'out/probes').iterdir())) == 3


def test_the_head_of_a_checkpoint_classifies(request_, linear_config, splits_folder, tmp_path):
    path = tmp_path / 'linear.pth'
    model = save_classifier(linear_config, path)
    loaded = load_frozen_network(path, config=linear_config)
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        expected = model.backbone(images)[-1][:, :3]
        torch.testing.assert_close(loaded.classifier.logits(images), expected)
    assert loaded.classifier.classes == CLASSES and hasattr(loaded.backbone, 'last_blocks')
    given = request_('imagenet_a', 'occlusion', checkpoint=str(path), config=str(linear_config))
    given = Request(**(vars(given) | dict(folders=dict(imagenet_a=str(splits_folder / 'val')))))
    results = evaluate_frozen(given, OPTIONS)
    (found,) = results['measurements']['teacher']['imagenet_a']
    assert found['setting'] == dict(images=12, classes=3)
    occluded = results['measurements']['teacher']['occlusion']
    top1 = pytest.approx(occluded[0]['metrics']['top1'])  # nothing is taken away
    assert found['metrics']['top1'] == top1
    assert not (tmp_path / 'out/probes').exists()


def test_a_sweep_without_a_best_head_is_refused(linear_config, tmp_path):
    save_classifier(linear_config, tmp_path / 'new.pth', best=-1)
    with pytest.raises(ValueError, match='saved after a validation'):
        load_frozen_network(tmp_path / 'new.pth', config=linear_config)


def test_baselines_of_a_head_are_refused(request_, linear_config, tmp_path):
    save_classifier(linear_config, tmp_path / 'linear.pth')
    given = request_(
        'shuffle', checkpoint=str(tmp_path / 'linear.pth'), config=str(linear_config),
        baselines=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match='leave them out, or give the pre-trained network'):
        evaluate_frozen(given, OPTIONS)


def test_classes_that_nothing_tells_are_refused(linear_config, tmp_path, monkeypatch):
    save_classifier(linear_config, tmp_path / 'linear.pth', names=())
    with pytest.raises(ValueError, match='the classes of the 3 outputs are not known'):
        load_frozen_network(tmp_path / 'linear.pth', config=linear_config)
    assert imagenet_classes(3, CLASSES) == CLASSES
    pytest.importorskip('timm')
    ids = imagenet_classes(1000, ['tench, Tinca tinca'] * 1000)
    assert ids[:2] == ('n01440764', 'n01443537') and list(ids) == sorted(ids)
    assert imagenet_classes(1000, ids[::-1]) == ids[::-1]
    own = tuple(f'class_{number}' for number in range(1000))
    assert imagenet_classes(1000, own) == own and imagenet_classes(1000) == ids
    monkeypatch.setitem(sys.modules, 'timm.data', None)
    with pytest.raises(ImportError, match='pip install timm'):
        imagenet_classes(1000)


def test_other_classes_are_refused_before_features_are_computed(
    request_, splits_folder, tmp_path, monkeypatch
):
    from ibot_mm.evaluation import FeatureExtractor

    other = tmp_path / 'other/n01/0.png'
    other.parent.mkdir(parents=True)
    other.write_bytes((splits_folder / 'val/class_0/0.png').read_bytes())
    monkeypatch.setattr(FeatureExtractor, 'forward', lambda self, images: pytest.fail('too late'))
    given = request_('imagenet_r', folders=dict(imagenet_r=str(tmp_path / 'other')))
    with pytest.raises(DataError, match='n01 against class_0'):
        evaluate_frozen(given, OPTIONS)
    with pytest.raises(ValueError, match='attention is that of occlusion'):
        evaluate_frozen(request_('shuffle', attention='dino.pth'), OPTIONS)


@pytest.mark.slow
def test_the_tool_on_small_images(call, checkpoint, splits_folder, tmp_path):
    """Corruption, occlusion and shuffling of a folder of train and val, salience of another."""
    result = call(
        *('tools/evaluate.py', checkpoint, '--protocols', 'robustness'),
        *('--data', splits_folder, '--image-size', 16, '--num-workers', 0, '--epochs', 5),
        *('--out', tmp_path / 'out', '--attention', checkpoint, '--task-options'),
        *('imagenet_c.corruptions=fog,contrast', 'occlusion.drops=0,0.5', 'shuffle.grids=2x2'),
    )
    assert 'imagenet_c contrast' in result.stdout and 'shuffle 2x2' in result.stdout
    found = json.loads((tmp_path / 'out/results.json').read_text())['measurements']['teacher']
    assert {name: len(measured) for name, measured in found.items()} == dict(
        imagenet_c=4, occlusion=22, shuffle=2
    )
    clean = [m for m in found['imagenet_c'] if m['setting'].get('corruption') == 'none']
    assert clean[0]['metrics']['error'] == 100 - found['shuffle'][0]['metrics']['top1']


@pytest.mark.long
def test_several_processes_give_the_same(
    call_together, request_, checkpoint, splits_folder, tmp_path
):
    call_together(
        *('tools/evaluate.py', checkpoint, '--image-size', 16, '--num-workers', 0),
        *('--batch-size', 5, '--epochs', 20, '--launcher', 'pytorch', '--out', tmp_path / 'two'),
        *('--protocols', 'imagenet_r', 'occlusion', 'shuffle', '--task-options'),
        *('occlusion.shares=0.5', '--data', splits_folder, f'imagenet_r={splits_folder / "val"}'),
    )
    found = json.loads((tmp_path / 'two/results.json').read_text())['measurements']['teacher']
    given = request_(
        'imagenet_r', 'occlusion', 'shuffle', folders=dict(imagenet_r=str(splits_folder / 'val'))
    )
    one = evaluate_frozen(given, Options(epochs=20, tasks=dict(occlusion=dict(shares=[0.5]))))[
        'measurements'
    ]['teacher']
    for name, measured in one.items():
        assert [m['setting'].get('kind') for m in found[name]] == [
            m['setting'].get('kind') for m in measured
        ]
        for both in zip(found[name], measured):
            first, second = (m['metrics'] for m in both)
            assert first == pytest.approx(second)


FOREIGN = dict(
    mmpretrain=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.ResNet', depth=18, base_channels=4, stem_channels=4),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=32),
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', num_classes=3),
    ),
    timm=dict(
        type='mmpretrain.TimmClassifier',
        model_name='test_vit',
        pretrained=False,
        num_classes=3,
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', num_classes=3),
    ),
)


@pytest.mark.parametrize('library', FOREIGN)
def test_classifiers_of_other_libraries(library, request_, tmp_path):
    if library == 'timm':
        pytest.importorskip('timm')
    config, path = tmp_path / 'foreign.py', tmp_path / 'foreign.pth'
    Config(dict(model=FOREIGN[library], default_scope='mmpretrain')).dump(config)
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(FOREIGN[library]).eval()
    meta = dict(dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    network = load_frozen_network(path, config=config)
    size = 160 if library == 'timm' else 32
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        expected = model(model.data_preprocessor(dict(inputs=images))['inputs'], mode='tensor')
        found = network.classifier.logits(network.prepare(images))
    torch.testing.assert_close(found, expected)
    given = request_(
        'shuffle', 'occlusion', checkpoint=str(path), config=str(config), image_size=size
    )
    tasks = dict(occlusion=dict(kinds=['random'], grid=8), shuffle=dict(grids=['2x2']))
    measured = evaluate_frozen(given, Options(tasks=tasks))['measurements']['teacher']
    assert measured['shuffle'][0]['metrics'] == measured['occlusion'][0]['metrics']
    tasks['occlusion'] = dict(kinds=['random'])
    with pytest.raises(ValueError, match='are not known: set occlusion.grid'):
        evaluate_frozen(given, Options(tasks=tasks))
