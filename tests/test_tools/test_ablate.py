# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Whole ablations of a tiny network on noise, and what is refused before."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from preloaded import run_script

from ibot_mm.ablation import check_ablation, num_images_seen, plan_tasks, read_ablation, write_plan
from ibot_mm.config_check import check_config

TOP = Path(__file__).parents[2]
ABLATIONS = sorted((TOP / 'configs/ablation').glob('*.py'))
FULL = dict(description='As it is.', delta=dict())
RANDOM = dict(
    description='Random tokens.',
    delta=dict(
        model=dict(
            tokenizer=dict(
                type='ibot_mm.RandomTokenizer',
                backbone=dict(_like_='model.backbone', mask_token=False, drop_path_rate=0.0),
                neck=dict(_like_='model.neck'),
            )
        )
    ),
)
CLUSTERS = dict(
    prepare=dict(type='fit_clusters', num_patches=64),
    delta=dict(
        model=dict(
            tokenizer=dict(
                type='ibot_mm.ClusterTokenizer',
                num_tokens='{model.head.num_prototypes}',
                patch_size='{model.backbone.patch_size}',
                clusters='{prepared}',
            )
        )
    ),
)
FROZEN = dict(
    prepare=dict(type='pretrain', seed=7),
    delta=dict(
        model=dict(
            tokenizer=dict(
                type='ibot_mm.FrozenTokenizer',
                backbone=dict(
                    _like_='model.backbone',
                    mask_token=False,
                    init_cfg=dict(type='ibot_mm.Pretrained', checkpoint='{prepared}'),
                ),
                neck=dict(
                    _like_='model.neck',
                    init_cfg=dict(type='ibot_mm.PretrainedHead', checkpoint='{prepared}'),
                ),
            )
        )
    ),
)
BROKEN = dict(delta=dict(optim_wrapper=dict(optimizer=dict(lr=1e30))))  # no config check knows


class ForkedProcess:
    """A subprocess of this Python that finds the packages imported."""

    started: list[list[str]] = []

    def __init__(self, command, stdout, stderr, env):
        assert command[0] == sys.executable
        self.started.append(command)
        (self.result,) = run_script(command[1:], TOP)
        stdout.write(f'{self.result.stdout}{self.result.stderr}'.encode())
        stdout.flush()

    def poll(self):
        return self.result.returncode


@pytest.fixture
def forked(monkeypatch):
    monkeypatch.setattr('ibot_mm.ablation.processes.subprocess.Popen', ForkedProcess)
    monkeypatch.setattr('ibot_mm.ablation.processes.POLL', 0)
    monkeypatch.setattr(ForkedProcess, 'started', [])
    return ForkedProcess.started


@pytest.fixture
def write(tiny_config, tmp_path):
    """Write an ablation of the tiny training; returns its file."""
    tiny_config.default_hooks.checkpoint.start_again = False
    tiny_config.train_cfg.update(max_epochs=2, val_interval=2)
    tiny_config.train_dataloader.batch_size = 2
    tiny_config.default_hooks.logger.interval = 3  # the log ends before the training
    for key in ('work_dir', 'launcher'):
        tiny_config.pop(key)
    tiny_config.dump(tmp_path / 'base.py')

    def run(evaluation=dict(epochs=2), base='base.py', **arms):
        path = tmp_path / 'arms.py'
        path.write_text(f'base = {base!r}\nevaluation = {evaluation!r}\narms = {arms!r}\n')
        return path

    return run


@pytest.fixture
def ablate():
    main = runpy.run_path(str(TOP / 'tools/ablate.py'))['main']
    return lambda *words: main([str(word) for word in words])


@pytest.mark.long
def test_arms_seeds_failures_and_nothing_twice(write, ablate, forked, tmp_path, capsys):
    config, out = write(full=FULL, random=RANDOM, broken=BROKEN), tmp_path / 'out'
    command = (config, '--seeds', 2, '--out', out)
    with pytest.raises(SystemExit) as end:
        ablate(*command)
    assert 'broken/seed_0: status 1, FloatingPointError' in str(end.value) and 'full' not in str(
        end.value
    )
    assert len(forked) == 2 * 2 * 2 + 2
    report = json.loads((out / 'report.json').read_text())
    assert report['images'] == 2 * 8 and report['reference'] == 'full'
    for name in ('full', 'random'):
        runs = report['arms'][name]['runs']
        assert list(runs) == ['0', '1'] and all(run['images'] == 16 for run in runs.values())
        for metric, found in report['arms'][name]['metrics'].items():
            values = [run['metrics'][metric] for run in runs.values()]
            assert found['summary']['mean'] == pytest.approx(sum(values) / 2)
        losses = [run['losses']['loss_patch'] for run in runs.values()]
        assert losses[0] != losses[1]  # of other seeds
    text = (out / 'report.md').read_text()
    for part in ('| full | 2 |', '| broken | 0 |', '## Failed', 'commit: ', 'torch ', 'arms.py'):
        assert part in text
    assert (out / 'report.png').stat().st_size > 1000
    seen = {path: path.stat().st_mtime_ns for path in out.glob('*/seed_*/result.json')}

    forked.clear()
    with pytest.raises(SystemExit, match='broken/seed_0'):
        ablate(config, '--seeds', 1, '--out', out)
    assert len(seen) == 4 and len(forked) == 1  # only what had failed
    assert seen == {path: path.stat().st_mtime_ns for path in seen}
    forked.clear()
    ablate(*command, '--arms', 'full', 'random')
    assert forked == [] and 'FAILED' not in capsys.readouterr().out.split('0 tasks to do')[1]

    # A run whose measurement was lost is not trained again, and goes on from its checkpoint.
    (out / 'full/seed_0/result.json').unlink()
    checkpoint = (out / 'full/seed_0/epoch_2.pth').stat().st_mtime_ns
    shutil.copytree(out / 'full/seed_1', out / 'full/seed_1.old')  # a copy that somebody keeps
    ablate(*command, '--arms', 'full')
    report = json.loads((out / 'report.json').read_text())
    assert {name: list(arm['runs']) for name, arm in report['arms'].items()} == {
        'full': ['0', '1'],
        'random': ['0', '1'],
    }  # not the last call's alone
    assert (out / 'full/seed_0/epoch_2.pth').stat().st_mtime_ns == checkpoint
    assert json.loads((out / 'full/seed_0/result.json').read_text())['images'] == 16


@pytest.mark.long
def test_what_is_prepared(write, ablate, forked, tmp_path):
    config, out = write(full=FULL, frozen=FROZEN, clusters=CLUSTERS), tmp_path / 'out'
    ablate(config, '--seeds', 1, '--out', out, '--arms', 'frozen', 'clusters')
    assert (out / 'frozen/preparation/epoch_2.pth').exists()
    assert (out / 'clusters/preparation/clusters.pth').exists()
    assert len(forked) == 2 + 2 * 2
    text = (out / 'report.md').read_text()
    assert 'a pre-training by the base config, seed=7, 16 images, ' in text
    assert 'k-means of patches, num_patches=64' in text
    assert 'Difference' not in text  # the arm to compare with was left out


def test_references_and_keys(write):
    config = write(full=FULL, random=RANDOM, clusters=CLUSTERS)
    ablation = read_ablation(config, {'model.neck.hidden_channels': 20})
    tokenizer = ablation.arms['random'].cfg.model.tokenizer
    assert tokenizer.neck.hidden_channels == 20 and tokenizer.backbone.patch_size == 4
    assert not tokenizer.backbone.mask_token
    assert ablation.arms['clusters'].cfg.model.tokenizer.num_tokens == 24
    assert 'tokenizer' not in ablation.arms['full'].cfg.model
    assert num_images_seen(ablation.base) == 16
    keys = {name: ablation.key(arm) for name, arm in ablation.arms.items()}
    assert len(set(keys.values())) == 3
    other = read_ablation(config, {'model.neck.hidden_channels': 24}, ['random'])
    assert other.key(other.arms['random']) != keys['random']


def edit(**delta):
    return dict(delta=delta)


@pytest.mark.parametrize(
    'arms, words, message',
    [
        ({}, ['--seeds', 1, 1], 'seed 1 is named twice'),
        ({}, ['--arms', 'full', 'full'], 'arm full is named twice'),
        ({}, ['--arms', 'fulll'], "unknown arm: .*'fulll'; is 'full' meant"),
        ({}, ['--seeds', 0], 'must be at least 1'),
        ({'a b': edit(model=dict(evaluate='student'))}, [], "'a b' cannot be an arm"),
        (dict(second=FULL), [], 'exactly one arm must have an empty delta.*full, second'),
        (dict(long=edit(train_cfg=dict(max_epochs=3))), [], 'arm long sees 24 images and the base'),
        (dict(small=edit(train_dataloader=dict(batch_size=3))), [], 'sees 12 images'),
        (dict(x=edit(model=dict(head=dict(patch_wieght=0)))), [], "arm x .*'patch_wieght'"),
        (dict(x=edit(modle=dict(head=dict()))), [], "arm x has 1 fault.*\n.*modle.*'model'"),
        (dict(x=edit(default_hooks=dict(teacher=dict(moment=0)))), [], "not take 'moment'"),
        (dict(x=edit(model=dict(tokenizer='{model.nekc}'))), [], 'does not have model.nekc'),
        (dict(x=dict(CLUSTERS, prepare=None)), [], 'both or none'),
        (dict(x=dict(CLUSTERS, prepare=dict(type='fit'))), [], 'prepare.type must be one of'),
        (dict(x=dict(delta=dict(a=1), prepared=1)), [], "does not take 'prepared'"),
    ],
)  # fmt: skip
def test_refused_before_time_is_spent(write, ablate, forked, tmp_path, arms, words, message):
    config = write(full=FULL, **arms)
    with pytest.raises(SystemExit, match=f'(?s)ablate: .*{message}'):
        ablate(config, '--out', tmp_path / 'out', *words)
    assert forked == [] and not (tmp_path / 'out').exists()


def test_the_folder_of_another_ablation(write, tmp_path):
    config, out = write(full=FULL, random=RANDOM), tmp_path / 'out'
    before = read_ablation(config)
    write_plan(before, out)
    check_ablation(before, out)
    changed = read_ablation(config, {'train_cfg.max_epochs': 1})
    with pytest.raises(ValueError, match='holds an ablation of another config: arm full'):
        check_ablation(changed, out)
    # Another arm may join, and measuring otherwise is another ablation.
    more = read_ablation(
        write(full=FULL, random=RANDOM, student=edit(model=dict(evaluate='student')))
    )
    check_ablation(more, out)
    with pytest.raises(ValueError, match='another config'):
        check_ablation(read_ablation(write(evaluation=dict(epochs=3), full=FULL)), out)
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match='is a file'):
        check_ablation(before, tmp_path / 'file')


def test_slurm_only_writes(write, ablate, forked, tmp_path, capsys):
    config, out = write(full=FULL, clusters=CLUSTERS), tmp_path / 'out'
    ablate(config, '--out', out, '--seeds', 4, 5, '--launcher', 'slurm', '--jobs', 3)
    assert forked == []
    printed = capsys.readouterr().out
    assert f'afterany:$job {out}/trainings.sbatch' in printed
    script = (out / 'trainings.sbatch').read_text()
    assert '--array=0-3%3' in script and 'randomness.seed=5' in script
    assert 'fit_clusters.py' in (out / 'preparations.sbatch').read_text()


@pytest.mark.slow
@pytest.mark.parametrize('path', ABLATIONS, ids=lambda path: path.stem)
def test_shipped_ablations_build(path, tmp_path):
    """The model of each arm, and no fault in its config."""
    ablation = read_ablation(path)
    tokenizers = {'online', 'frozen', 'random', 'clusters', 'none', 'patch_only'}
    removed = {'no_centering', 'no_sharpening', 'no_centering_no_sharpening', 'momentum_0'}
    natural = {'full', 'no_contrast', 'no_whitening', 'moving_mean'}
    expected = dict(
        tokenizer=tokenizers,
        tokenizer_cifar10=tokenizers,
        stabilizers={'full', 'sinkhorn', 'no_multi_crop', *removed},
        stabilizers_cifar10={*natural, *removed},
    )
    assert set(ablation.arms) == expected[path.stem]
    assert ablation.reference in ('online', 'full')
    init_default_scope('mmpretrain')
    for arm in ablation.arms.values():
        assert check_config(arm.cfg, with_data=False) == [], arm.name
        model = MODELS.build(arm.cfg.model)
        assert (model.tokenizer is None) == (arm.name not in ('frozen', 'random', 'clusters'))
    plan_tasks(ablation, [0], tmp_path, TOP / 'tools')
    written = Config.fromfile(tmp_path / ablation.reference / 'config.py')
    assert check_config(written, with_data=False) == []
