# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Tools that check a user's config; tools that read checkpoints, against a hostile one."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from ibot_mm.engine.checkpointing import find_newest, read_checkpoint

TOP = Path(__file__).parents[2]
CONFIG = """
_base_ = ['ibot_mm::pretrain/ibot_vits16.py']
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32
        ),
        img_size=16,
        patch_size=4,
    ),
    neck=dict(in_channels=16, num_prototypes=24, hidden_channels=16, bottleneck_channels=8),
    head=dict(num_prototypes=24),
)
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
train_dataloader['dataset'] = dict(
    data_root='{root}',
    pipeline=dict(
        crops=dict(global_crop_size=16, local_crop_size=8, num_local_crops=2),
        masks=dict(patch_size=4),
    ),
)
splits = dict(
    data_root='{root}', pipeline=dict(resize=dict(scale=16), crop=dict(crop_size=16))
)
val_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)
val_dataloader['dataset'] = dict(bank=splits, query=splits)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(ks=(1, 5))
train_cfg = dict(max_epochs=12, val_interval=12)
optim_wrapper = dict(accumulative_counts=2)
"""


@pytest.fixture(scope='module')
def config(image_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp('config') / 'small.py'
    path.write_text(CONFIG.format(root=image_folder))
    return path


SHORT = [
    '--cfg-options',
    'param_scheduler.0.warmup=1',
    'default_hooks.temperature.warmup_epochs=2',
]


@pytest.mark.slow
@pytest.mark.parametrize('num_processes', [1, pytest.param(2, marks=pytest.mark.long)])
def test_check_resume_ends_with_identical(call, config, num_processes):
    start = []
    if num_processes > 1:
        start = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
        start.append(f'--nproc_per_node={num_processes}')
    launcher = 'none' if num_processes == 1 else 'pytorch'
    result = call(
        *start, 'tools/analysis_tools/check_resume.py', config, '--places', 1, '--batches', 3,
        '--epochs', 2, '--launcher', launcher, *SHORT,
    )  # fmt: skip
    assert result.stdout.splitlines()[-1] == 'identical'


@pytest.mark.long
def test_check_kills_survives(call, config):
    result = call(
        'tools/analysis_tools/check_kills.py', config, '--kills', 3,
        '--batches', 3, '--interval', 2, *SHORT,
    )  # fmt: skip
    assert result.stdout.splitlines()[-1] == 'survived 3 of 3'


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, 'w'))


TOOLS = {
    'train, load_from': ['tools/train.py', 'CONFIG', *SHORT, 'load_from=FILE'],
    'train, resume': ['tools/train.py', 'CONFIG', '--resume', 'FILE', *SHORT],
    'test': ['tools/test.py', 'CONFIG', 'FILE'],
    'attention': ['tools/analysis_tools/visualize_attention.py', 'CONFIG', 'FILE', '--out', 'OUT'],
    'convert': ['tools/model_converters/convert_to_ibot_mm.py', 'FILE', 'OUT'],
    'publish': ['tools/model_converters/publish_model.py', 'FILE', 'OUT'],
    'verify': ['tools/analysis_tools/verify_checkpoint.py', 'FILE'],
}


TROUBLE = """
import os, signal
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class KillOneOnce(Hook):
    def after_train_iter(self, runner, *args, **kwargs):
        first = os.environ['IBOT_MM_RESTARTS'] == '0'
        if first and get_rank() == 1 and runner.iter == 4:
            os.kill(os.getpid(), signal.SIGKILL)
"""
BROKEN = """
_base_ = ['small.py']
custom_imports = dict(imports=['ibot_mm.registry', 'trouble'], allow_failed_imports=False)
custom_hooks = [dict(type='KillOneOnce')]
train_dataloader = dict(dataset=dict(data_root='{root}', pipeline=dict(load=dict(on_error='skip'))))
default_hooks = dict(skipped_images=dict(max_share=1.0))
train_cfg = dict(max_epochs=4, val_interval=9)
optim_wrapper = dict(accumulative_counts=1)
"""


@pytest.mark.long
def test_dist_train_goes_on_after_one_of_two_processes_is_killed(
    call, config, image_folder, tmp_path
):
    """Both read broken images; those of both are counted and summed in the log."""
    shutil.copytree(image_folder, tmp_path / 'images')
    for number in range(4):
        (tmp_path / f'images/train/class_0/broken_{number}.jpg').write_bytes(b'broken')
    shutil.copy(config, tmp_path / 'small.py')
    (tmp_path / 'broken.py').write_text(BROKEN.format(root=tmp_path / 'images'))
    (tmp_path / 'trouble.py').write_text(TROUBLE)
    work_dir = tmp_path / 'work_dir'
    call(
        'bash', 'tools/dist_train.sh', tmp_path / 'broken.py', 2, '--work-dir', work_dir, *SHORT,
        MAX_RESTARTS='1', PYTHONPATH=f'{TOP}:{tmp_path}',
    )  # fmt: skip
    assert find_newest(work_dir)[0].name == 'epoch_4.pth'
    first, second = sorted(work_dir.glob('*/*.log'))
    assert 'Resuming from' not in first.read_text()
    assert 'Resuming from the newest valid checkpoint' in second.read_text()
    total, by_0, by_1 = map(int, re.findall(
        r'(\d+) of \d+ images .* \((\d+) by process 0, (\d+) by process 1\)', second.read_text()
    )[-1])  # fmt: skip
    assert total == by_0 + by_1 and by_0 and by_1
    count = read_checkpoint(find_newest(work_dir)[0])['log_history']['train/skipped_images']
    assert count['values'][-1] >= total  # with those of the first start
    names = (work_dir / 'skipped_images.txt').read_text().splitlines()
    assert 1 < len(names) <= 4 and all('/class_0/broken_' in name for name in names)


@pytest.mark.slow
@pytest.mark.parametrize('tool', TOOLS)
def test_no_tool_runs_what_a_checkpoint_holds(call, config, tmp_path, tool):
    mark, file = tmp_path / 'mark', tmp_path / 'hostile.pth'
    torch.save(dict(meta={}, state_dict=dict(x=torch.zeros(1)), extra=Hostile(mark)), file)
    words = dict(CONFIG=config, FILE=file, OUT=tmp_path / 'out.pth')
    command = [str(words.get(word, word)).replace('=FILE', f'={file}') for word in TOOLS[tool]]
    if tool.startswith(('train', 'test')):
        command[2:2] = ['--work-dir', str(tmp_path / 'work_dir')]
    result = call(*command, may_fail=True)
    assert result.returncode != 0
    assert 'refused' in result.stderr or 'Weights only load failed' in result.stderr, result.stderr
    assert not mark.exists()


def test_slurm_train_queues_again_what_was_saved(call, tmp_path):
    """A stand-in for srun: saved once by a signal, then done."""
    (tmp_path / 'srun').write_text(
        f'#!/bin/bash\necho "$@" >> {tmp_path}/calls\n[ $(wc -l < {tmp_path}/calls) = 1 ] '
        '&& exit 75\nexit 0\n'
    )
    (tmp_path / 'scontrol').write_text(f'#!/bin/bash\necho "$@" > {tmp_path}/requeued\n')
    for name in ('srun', 'scontrol'):
        (tmp_path / name).chmod(0o755)
    path = f'{tmp_path}:{os.environ["PATH"]}'
    script = ['bash', 'tools/slurm_train.sh', 'partition', 'job', 'config.py']
    call(*script, PATH=path, GRACE='60', SLURM_JOB_ID='')
    first, second = (tmp_path / 'calls').read_text().splitlines()
    assert '--signal=USR1@60' in first and not first.endswith('--resume')
    assert second.endswith('--resume')
    (tmp_path / 'calls').unlink()
    call(*script, PATH=path, SLURM_JOB_ID='17')
    assert (tmp_path / 'requeued').read_text() == 'requeue 17\n'
