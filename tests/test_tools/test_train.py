# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""tools/train.py, tools/test.py and their launchers, as a user calls them."""

import argparse
import json
import re
import runpy
from pathlib import Path

import pytest
from mmengine.registry import OPTIM_WRAPPERS

TOP = Path(__file__).parents[2]


@pytest.fixture
def config(tiny_config, tmp_path):
    tiny_config.pop('launcher')
    path = tmp_path / 'tiny.py'
    tiny_config.dump(path)
    return path


@pytest.mark.parametrize(
    ('kind', 'mixed'),
    [
        (None, 'ibot_mm.AmpOptimWrapper'),
        ('OptimWrapper', 'ibot_mm.AmpOptimWrapper'),
        ('mmengine.OptimWrapper', 'ibot_mm.AmpOptimWrapper'),
        ('AmpOptimWrapper', 'AmpOptimWrapper'),
        ('ibot_mm.PerParameterClipOptimWrapper', 'ibot_mm.PerParameterClipAmpOptimWrapper'),
    ],
)
def test_amp_chooses_a_wrapper_that_exists(tmp_path, kind, mixed):
    path = tmp_path / 'config.py'
    path.write_text(f'optim_wrapper = {dict(type=kind) if kind else {}!r}\n')
    namespace = runpy.run_path(str(TOP / 'tools/train.py'))
    arguments = dict(config=str(path), work_dir=None, resume=None, amp=True, auto_scale_lr=False)
    rest = dict(cfg_options=None, launcher='none', start_again=False)
    cfg = namespace['build_config'](argparse.Namespace(**arguments, **rest))
    assert cfg.optim_wrapper.type == mixed
    if '.' in mixed:
        assert OPTIM_WRAPPERS.get(mixed) is not None


@pytest.mark.slow
def test_train_resume_and_test(config, tmp_path, call):
    work_dir = tmp_path / 'elsewhere'
    train = ['tools/train.py', config, '--work-dir', work_dir]
    call(*train, '--cfg-options', 'train_cfg.max_epochs=2')
    assert (work_dir / 'last_checkpoint').read_text().endswith('epoch_2.pth')
    result = call(*train, '--resume')
    assert re.search(r'resumed epoch: 2, iter: 4', result.stdout + result.stderr)
    assert (work_dir / 'epoch_3.pth').exists()

    metrics = {}
    for checkpoint in (work_dir / 'epoch_3.pth', 'none'):
        out = tmp_path / 'metrics.json'
        call('tools/test.py', config, checkpoint, '--out', out)
        metrics[checkpoint] = json.loads(out.read_text())
        assert set(metrics[checkpoint]) == {f'knn/top{n}_k{k}' for n in (1, 5) for k in (1, 5)}


@pytest.mark.slow
def test_two_processes_train_and_validate_without_gpus(config, tmp_path, call):
    together = ['--cfg-options', 'model.neck.norm_cfg.type=ibot_mm.SyncBN',
                'model.backbone.with_cp=True', 'optim_wrapper.accumulative_counts=2',
                'optim_wrapper.dtype=bfloat16']  # fmt: skip
    work_dir, out = tmp_path / 'dist', tmp_path / 'metrics.json'
    call('bash', 'tools/dist_train.sh', config, 2, '--work-dir', work_dir, '--amp', *together)
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    distributed = json.loads(scalars.read_text().splitlines()[-1])
    call('tools/test.py', config, work_dir / 'epoch_3.pth', '--out', out, *together[:2])
    alone = json.loads(out.read_text())
    assert alone == pytest.approx({name: distributed[name] for name in alone})


@pytest.mark.long
def test_two_processes_test_as_one(config, tmp_path, call):
    found = []
    for tool in (
        ['tools/test.py', config, 'none'],
        ['bash', 'tools/dist_test.sh', config, 'none', 2],
    ):
        call(*tool, '--out', tmp_path / 'metrics.json', '--cfg-options', 'randomness.seed=0')
        found.append(json.loads((tmp_path / 'metrics.json').read_text()))
    assert found[1] == pytest.approx(found[0])


@pytest.mark.parametrize('script', ['dist_train', 'dist_test', 'slurm_train', 'slurm_test'])
def test_launchers_say_how_to_be_called(script, call):
    result = call('bash', f'tools/{script}.sh', may_fail=True)
    assert result.returncode == 2 and 'Usage: ' in result.stderr and script in result.stderr


@pytest.mark.slow
def test_auto_scale_lr_needs_a_base_batch_size(tmp_path, call):
    path = tmp_path / 'config.py'
    path.write_text('model = dict()\n')
    result = call('tools/train.py', path, '--auto-scale-lr', may_fail=True)
    assert result.returncode != 0 and 'has no auto_scale_lr.base_batch_size' in result.stderr
