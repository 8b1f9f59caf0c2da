# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Tools that check a user's config; tools that read checkpoints, against a hostile one."""

import os
import pickle
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ibot_mm.engine.checkpointing import find_newest, read_checkpoint, write_checkpoint
from ibot_mm.engine.checkpointing.compare import first_difference

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


OF_CONFIG = ['model.backbone.init_cfg.type=Pretrained', 'model.backbone.init_cfg.checkpoint=FILE']
TOOLS = {
    'train, load_from': ['tools/train.py', 'CONFIG', *SHORT, 'load_from=FILE'],
    'train, resume': ['tools/train.py', 'CONFIG', '--resume', 'FILE', *SHORT],
    'train, newest': ['tools/train.py', 'CONFIG', '--resume', *SHORT],
    'train, init_cfg': ['tools/train.py', 'CONFIG', *SHORT, *OF_CONFIG],
    'train, our init_cfg': ['tools/train.py', 'CONFIG', *SHORT, *OF_CONFIG,
                            'model.backbone.init_cfg.type=ibot_mm.Pretrained'],
    'train, clusters': ['tools/train.py', 'CLUSTERS', *SHORT, 'model.tokenizer.clusters=FILE'],
    'clusters': ['tools/fit_clusters.py', 'CLUSTERS', '--out', 'OUT'],
    'test': ['tools/test.py', 'CONFIG', 'FILE'],
    'evaluate': ['tools/evaluate.py', 'FILE', '--data', 'DATA', '--out', 'OUT'],
    'evaluate, config': ['tools/evaluate.py', 'FILE', '--config', 'CONFIG', '--out', 'OUT'],
    'evaluate, init_cfg': ['tools/evaluate.py', 'none', '--config', 'CHANGED', '--out', 'OUT'],
    'extract': ['tools/extract_features.py', 'FILE', 'DATA', '--out', 'OUT'],
    'pictures': ['tools/analysis_tools/visualize_network.py', 'pca', 'FILE', 'DATA',
                 '--out', 'OUT'],
    'pictures, config': ['tools/analysis_tools/visualize_network.py', 'pca', 'FILE', 'DATA',
                         '--config', 'CONFIG', '--out', 'OUT'],
    'predictions': ['tools/analysis_tools/visualize_predictions.py', 'CONFIG', 'FILE',
                    '--cfg-options', 'visualizer.name=pictures'],
    'initialization': ['tools/analysis_tools/compare_initialization.py', 'CHANGED', *SHORT],
    'convert': ['tools/model_converters/convert_to_ibot_mm.py', 'FILE', 'OUT'],
    'export': ['tools/model_converters/export_backbone.py', 'FILE', 'OUT', '--to', 'timm'],
    'onnx': ['tools/model_converters/export_onnx.py', 'FILE', 'OUT.onnx'],
    'merge': ['tools/model_converters/merge_shards.py', 'FOLDER', 'OUT'],
    'publish': ['tools/model_converters/publish_model.py', 'FILE', 'OUT'],
    'verify': ['tools/analysis_tools/verify_checkpoint.py', 'FILE'],
    'replay': ['tools/analysis_tools/replay_reference.py', 'ARRAYS'],
    'replay evaluation': ['tools/analysis_tools/replay_evaluation.py', 'ARRAYS'],
}  # fmt: skip
# Those that read no file of weights but what they have written themselves.
OTHERS = {
    *('ablate', 'average_evaluations', 'compare_monitors', 'diagnose', 'record_healthy_run'),
    *('check_config', 'check_images', 'check_kills', 'check_resume', 'demo', 'install'),
    *(
        'list_components',
        'list_models',
        'make_demo_data',
        'measure_channels',
        'plot_curves',
        'sweep_weights',
    ),
    *('elastic_launch', 'try_stacks', 'try_timm_families'),
}


def test_every_tool_is_tried_with_a_hostile_file():
    tools = {path.stem for path in (TOP / 'tools').glob('**/*.py')}
    recordings = {path.stem for path in (TOP / 'tools').glob('*/evaluation_recordings/*.py')}
    tried = {Path(command[0]).stem for command in TOOLS.values()}
    assert tried | OTHERS == tools - recordings - {'training_recording'}


TROUBLE = """
import os, signal, time
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class StopOneOnce(Hook):
    def __init__(self, name):
        self.name = name

    def after_train_iter(self, runner, *args, **kwargs):
        first = os.environ['IBOT_MM_RESTARTS'] == '0'
        if first and get_rank() == 1 and runner.iter == 4:
            os.kill(os.getpid(), getattr(signal, self.name))


@HOOKS.register_module()
class Slow(Hook):
    def after_train_iter(self, runner, *args, **kwargs):
        time.sleep(0.2)
"""
BROKEN = """
_base_ = ['small.py']
custom_imports = dict(imports=['ibot_mm.registry', 'trouble'], allow_failed_imports=False)
custom_hooks = [dict(type='StopOneOnce', name='{name}')]
env_cfg = dict(dist_cfg=dict(timeout=10))
train_dataloader = dict(dataset=dict(data_root='{root}', pipeline=dict(load=dict(on_error='skip'))))
default_hooks = dict(skipped_images=dict(max_share=1.0))
train_cfg = dict(max_epochs=4, val_interval=9)
optim_wrapper = dict(accumulative_counts=1)
"""


@pytest.mark.long
@pytest.mark.parametrize('name', ['SIGKILL', 'SIGSTOP'])
def test_dist_train_goes_on_after_one_of_two_processes_ends_or_stalls(
    call, config, image_folder, tmp_path, name
):
    """Both read broken images; those of both are counted and summed in the log."""
    shutil.copytree(image_folder, tmp_path / 'images')
    for number in range(4):
        (tmp_path / f'images/train/class_0/broken_{number}.jpg').write_bytes(b'broken')
    shutil.copy(config, tmp_path / 'small.py')
    (tmp_path / 'broken.py').write_text(BROKEN.format(root=tmp_path / 'images', name=name))
    (tmp_path / 'trouble.py').write_text(TROUBLE)
    work_dir = tmp_path / 'work_dir'
    result = call(
        'bash', 'tools/dist_train.sh', tmp_path / 'broken.py', 2, '--work-dir', work_dir, *SHORT,
        MAX_RESTARTS='1', PYTHONPATH=f'{TOP}:{tmp_path}',
    )  # fmt: skip
    if name == 'SIGSTOP':
        assert 'Rank 1 of 2 did not come to where rank 0' in result.stderr + result.stdout
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
def test_no_tool_runs_what_a_file_holds(call, config, image_folder, tmp_path, tool):
    mark, file = tmp_path / 'mark', tmp_path / 'work_dir/epoch_9.pth'
    file.parent.mkdir()
    torch.save(dict(meta={}, state_dict=dict(x=torch.zeros(1)), extra=Hostile(mark)), file)
    np.savez(tmp_path / 'hostile.npz', meta=np.array(Hostile(mark), dtype=object))
    folder = tmp_path / 'shards.dcp'
    write_checkpoint({}, folder / 'training.pth')
    (folder / '.metadata').write_bytes(pickle.dumps(Hostile(mark)))
    (tmp_path / 'changed.py').write_text(
        f'_base_ = [{str(config)!r}]\nmodel = dict(backbone=dict('
        f"init_cfg=dict(type='Pretrained', checkpoint={str(file)!r})))\n"
    )
    (tmp_path / 'clusters.py').write_text(
        f'_base_ = [{str(config)!r}]\nfrozen = dict(_base_.model.backbone, init_cfg=dict('
        f"type='Pretrained', checkpoint={str(file)!r}))\nmodel = dict(tokenizer=dict("
        "type='ibot_mm.ClusterTokenizer', num_tokens=24, patch_size=4, clusters='x', "
        'backbone=frozen), head=dict(num_patch_prototypes=24))\n'
    )
    words = dict(
        CONFIG=config, CHANGED=tmp_path / 'changed.py', CLUSTERS=tmp_path / 'clusters.py',
        FILE=file, FOLDER=folder, DATA=image_folder,
        ARRAYS=tmp_path / 'hostile.npz', OUT=tmp_path / 'out.npy',
    )  # fmt: skip
    command = [str(words.get(word, word)).replace('=FILE', f'={file}') for word in TOOLS[tool]]
    command = [word.replace('OUT.onnx', str(tmp_path / 'out.onnx')) for word in command]
    if tool.startswith(('train', 'test', 'initialization')):
        folder = file.parent if tool == 'train, newest' else tmp_path / 'fresh'
        command[2:2] = ['--work-dir', str(folder)]
    result = call(*command, may_fail=True)
    assert result.returncode != 0
    refusals = ('refused', 'Weights only load failed', 'allow_pickle=False')
    assert any(words in result.stderr for words in refusals), result.stderr + result.stdout
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


@pytest.mark.parametrize(('given', 'port'), [('', '25432'), ('29400', '29400')])
def test_jobs_that_share_a_node_have_ports_of_their_own(call, tmp_path, given, port):
    (tmp_path / 'srun').write_text(f'#!/bin/bash\necho "$MASTER_PORT" > {tmp_path}/port\n')
    (tmp_path / 'srun').chmod(0o755)
    call(
        'bash', 'tools/slurm_train.sh', 'partition', 'job', 'config.py', SLURM_JOB_ID='1015432',
        PATH=f'{tmp_path}:{os.environ["PATH"]}', MASTER_PORT=given,
    )  # fmt: skip
    assert (tmp_path / 'port').read_text().strip() == port


SRUN = """#!/bin/bash
# Starts the tasks, and signals them once: USR1 as Slurm does before the time limit, or KILL.
for word; do case $word in --ntasks=*) tasks=${word#*=};; esac; done
while [[ $1 == -* ]]; do [ "$1" = -p ] && shift; shift; done
export SLURM_NTASKS=$tasks SLURM_STEP_NODELIST=node
for ((i = 0; i < tasks; i++)); do SLURM_PROCID=$i SLURM_LOCALID=$i "$@" & pids+=($!); done
if [ -n "$LIMIT" ] && mkdir "$LIMIT" 2> /dev/null; then
    until [ -e "$LIMIT/../work_dir/epoch_1.pth" ]; do sleep 0.05; done
    kill -"$SIGNAL" "${pids[@]}"
fi
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit $status
"""
SCONTROL = """#!/bin/bash
[ "$1" = show ] && echo 127.0.0.1 && exit
SLURM_RESTART_COUNT=1 exec "${0%/*}/job.sh"
"""
JOB = """#!/bin/bash
exec bash tools/slurm_train.sh partition job {config} --work-dir {work_dir} {options}
"""


@pytest.mark.long
@pytest.mark.parametrize('what', ['batch job', 'srun alone', 'lost node'])
def test_slurm_train_goes_on_with_a_real_training(call, config, tmp_path, what):
    """The signal before the time limit: saved, queued again, resumed, the same end.

    A batch job that has lost a node is queued again by Slurm, with the same command.
    """
    shutil.copy(config, tmp_path / 'small.py')
    (tmp_path / 'trouble.py').write_text(TROUBLE)
    (tmp_path / 'slow.py').write_text(
        "_base_ = ['small.py']\ncustom_hooks = [dict(type='Slow')]\n"
        'train_cfg = dict(max_epochs=4)\n'
        "custom_imports = dict(imports=['ibot_mm.registry', 'trouble'])\n"
    )
    for name, text in (('srun', SRUN), ('scontrol', SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    ends = []
    for work_dir, limit in (('whole', ''), ('work_dir', tmp_path / 'limit')):
        words = dict(config=tmp_path / 'slow.py', work_dir=tmp_path / work_dir)
        (tmp_path / 'job.sh').write_text(JOB.format(options=' '.join(SHORT), **words))
        (tmp_path / 'job.sh').chmod(0o755)
        options = dict(
            PATH=f'{tmp_path}:{os.environ["PATH"]}', LIMIT=str(limit), GPUS='2',
            SIGNAL='KILL' if what == 'lost node' else 'USR1', MASTER_PORT='29651',
            SLURM_JOB_ID='' if what == 'srun alone' else '17', PYTHONPATH=f'{TOP}:{tmp_path}',
        )  # fmt: skip
        result = call(tmp_path / 'job.sh', **options, may_fail=True)
        if limit and what == 'lost node':
            assert result.returncode == 137
            result = call(tmp_path / 'job.sh', **options, SLURM_RESTART_COUNT='1')
        assert result.returncode == 0, result.stderr
        ends.append(read_checkpoint(tmp_path / work_dir / 'epoch_4.pth'))
        output = result.stdout + result.stderr
        assert ('resumed epoch: 1' in output) == bool(limit)
        assert ('Exit status 75' in output) == (bool(limit) and what != 'lost node')
    assert first_difference(*ends) is None
