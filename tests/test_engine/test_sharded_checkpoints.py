# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Checkpoints in folders: whole or not there, read by any number of processes and by all tools."""

import errno
import json
import os
import pickle
import runpy
import shutil
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from equal_training import VARIANTS, prepare_process, run
from mmengine.registry import MODELS, DefaultScope
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.testing import assert_close

from ibot_mm.checkpoint import Checkpoint
from ibot_mm.engine.checkpointing import (
    CheckpointFileError,
    DiskFullError,
    find_newest,
    keep_newest,
    list_checkpoints,
    read_checkpoint,
)
from ibot_mm.engine.checkpointing.compare import first_difference
from ibot_mm.engine.checkpointing.shard_writing import remove_unfinished, write_shards
from ibot_mm.engine.distributed import finish_processes

TOOL = Path(__file__).parents[2] / 'tools/model_converters/merge_shards.py'
TRAIN = Path(__file__).parents[2] / 'tools/train.py'
SHARDED = dict(_delete_=True, type='ibot_mm.ShardedDataParallel')
VARIANT = {
    **VARIANTS['accumulated, checkpointed, frozen'],
    'default_hooks.prototypes.epochs': 0,
    'default_hooks.checkpoint': dict(
        _delete_=True, type='ibot_mm.CheckpointHook', interval=3, by_epoch=False
    ),
}


@pytest.fixture
def group():
    """One process that shares with itself."""
    dist.init_process_group('gloo', rank=0, world_size=1, store=dist.HashStore())
    yield dist.group.WORLD
    dist.destroy_process_group()


@pytest.fixture
def content(group):
    mesh = init_device_mesh('cpu', (1,))
    weight = distribute_tensor(torch.arange(1000.0), mesh, [Shard(0)])
    moments = distribute_tensor(torch.ones(1000), mesh, [Shard(0)])
    return dict(
        state_dict=OrderedDict(weight=weight, center=torch.zeros(3)),
        optimizer=dict(state={0: dict(step=torch.ones(()), exp_avg=moments)}, param_groups=[]),
        gradients=[dict(weight=moments + 1)],
        meta=dict(epoch=1, iter=2, cfg='x = 1', nothing=None),
    )


@pytest.fixture
def write(content, group):
    def save(path, add=lambda rest: None, completed=lambda: None):
        return write_shards(content, path, group, add, completed)

    return save


def test_a_folder_comes_back_whole_though_the_training_goes_on(tmp_path, content, write):
    path, done = tmp_path / 'epoch_1.dcp', []
    wait = write(path, lambda rest: rest.update(probe=5), lambda: done.append(path.is_dir()))
    content['state_dict']['weight'].zero_()
    content['state_dict']['center'].fill_(7)
    wait()
    assert done == [True] and os.listdir(tmp_path) == ['epoch_1.dcp']
    found = read_checkpoint(path)
    assert list(found['state_dict']) == ['weight', 'center'] and found['probe'] == 5
    assert torch.equal(found['state_dict']['weight'], torch.arange(1000.0))
    assert torch.equal(found['state_dict']['center'], torch.zeros(3))
    assert torch.equal(found['optimizer']['state'][0]['exp_avg'], torch.ones(1000))
    assert torch.equal(found['gradients'][0]['weight'], torch.full((1000,), 2.0))
    assert found['meta'] == content['meta']
    assert isinstance(content['optimizer']['state'][0]['exp_avg'], torch.Tensor)  # not taken


def test_the_package_reads_the_folder_itself(tmp_path, write):
    write(tmp_path / 'epoch_1.dcp')()
    opened = Checkpoint.open(tmp_path / 'epoch_1.dcp')
    assert sorted(opened.tensors) == ['state_dict.center', 'state_dict.weight']
    assert opened.meta['cfg'] == 'x = 1'


def test_a_file_is_made_of_it(tmp_path, write):
    tool = runpy.run_path(str(TOOL))['main']
    folder, out = tmp_path / 'epoch_1.dcp', tmp_path / 'whole.pth'
    write(folder)()
    tool([str(folder), str(out)])
    assert first_difference(read_checkpoint(folder), read_checkpoint(out)) is None
    with pytest.raises(SystemExit, match='whole.pth is there already.*--overwrite'):
        tool([str(folder), str(out)])
    (folder / '__0_0.distcp').unlink()
    with pytest.raises(SystemExit, match='epoch_1.dcp lacks __0_0.distcp'):
        tool([str(folder), str(out), '--overwrite'])
    with pytest.raises(SystemExit, match='whole.pth is not a folder'):
        tool([str(out), str(out)])


@pytest.fixture
def trained(tiny_config, tmp_path):
    """The same small model as a folder of shards and as a file."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(tiny_config.model)
    whole = OrderedDict((n, t + 0.1 * torch.randn(t.shape)) for n, t in model.state_dict().items())
    meta = dict(epoch=1, iter=2, cfg=tiny_config.pretty_text)
    torch.save(dict(state_dict=whole, meta=meta), tmp_path / 'epoch_1.pth')
    dist.init_process_group('gloo', rank=0, world_size=1, store=dist.HashStore())
    mesh = init_device_mesh('cpu', (1,))
    shards = OrderedDict(
        (n, distribute_tensor(t, mesh, [Shard(0)]) if t.ndim > 1 else t) for n, t in whole.items()
    )
    content = dict(state_dict=shards, optimizer=dict(state={}, param_groups=[]), meta=meta)
    folder = tmp_path / 'epoch_1.dcp'
    write_shards(content, folder, dist.group.WORLD, lambda rest: None, lambda: None)()
    dist.destroy_process_group()
    return [folder, tmp_path / 'epoch_1.pth']


@pytest.mark.slow
def test_the_folder_is_evaluated_and_exported_as_the_file(trained, image_folder, tmp_path):
    """By the tools, as docs/scale.md says."""
    tools = Path(__file__).parents[2] / 'tools'
    names = ('evaluate', 'extract_features', 'model_converters/export_backbone')
    evaluate, extract, export = (runpy.run_path(str(tools / f'{n}.py'))['main'] for n in names)
    small, found, measured = ['--image-size', '16', '--num-workers', '0'], [], []
    for source in trained:
        out = tmp_path / f'of_{source.suffix[1:]}'
        words = ['--data', str(image_folder), '--protocols', 'knn', '--ks', '1', '--out', str(out)]
        evaluate([str(source), *words, *small])
        extract([str(source), str(image_folder / 'val'), '--out', str(out / 'x.npy'), *small])
        export([str(source), str(out / 'timm.safetensors'), '--to', 'timm'])
        export([str(source), str(out / 'card'), '--to', 'huggingface'])
        measured.append(json.loads((out / 'results.json').read_text())['measurements'])
        found.append(
            dict(
                features=torch.from_numpy(np.load(out / 'x.npy')),
                timm=load_file(out / 'timm.safetensors'),
                huggingface=load_file(out / 'card/model.safetensors'),
            )
        )
    assert measured[0] == measured[1]
    assert_close(*found, rtol=0, atol=0)
    assert len(found[0]['timm']) > 20 and found[0]['features'].shape == (4, 16)


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, 'w'))


def damage(folder, kind):
    shard = folder / '__0_0.distcp'
    data = shard.read_bytes()
    if kind == 'no shard':
        shard.unlink()
    elif kind == 'no index':
        (folder / '.metadata').unlink()
    elif kind == 'no rest':
        (folder / 'training.pth').unlink()
    elif kind == 'truncated':
        shard.write_bytes(data[:-100])
    elif kind == 'a byte changed':
        start = data.index(torch.arange(1000.0).numpy().tobytes()) + 99
        shard.write_bytes(data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :])
    elif kind == 'hostile':
        (folder / '.metadata').write_bytes(pickle.dumps(Hostile(folder / 'ran')))


FAULTS = {
    'no shard': 'lacks __0_0.distcp',
    'no index': 'lacks .metadata',
    'no rest': 'has a training.pth that is not there',
    'truncated': 'is not complete .__0_0.distcp is too short',
    'a byte changed': 'is damaged .checksum in __0_0.distcp',
    'hostile': 'is refused: .metadata is not an index .*io.open',
}


@pytest.mark.parametrize('kind', FAULTS)
def test_half_a_folder_is_never_taken_as_whole(tmp_path, write, kind):
    for name in ('epoch_9.dcp', 'epoch_10.dcp'):
        write(tmp_path / name)()
    damage(tmp_path / 'epoch_10.dcp', kind)
    with pytest.raises(CheckpointFileError, match=FAULTS[kind]):
        read_checkpoint(tmp_path / 'epoch_10.dcp')
    newest, passed = find_newest(tmp_path)
    assert newest == tmp_path / 'epoch_9.dcp'
    assert [path.name for path, _ in passed] == ['epoch_10.dcp']
    assert not (tmp_path / 'epoch_10.dcp/ran').exists()


def fail_to_sync(file):
    raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize('when', ['at first', 'later'])
def test_a_full_disk_leaves_the_folder_of_before(tmp_path, write, monkeypatch, when):
    path = tmp_path / 'epoch_1.dcp'
    write(path)()
    before = sorted(os.listdir(path))
    with monkeypatch.context() as patch, pytest.raises(DiskFullError, match='the disk is full'):
        if when == 'at first':
            patch.setattr(os, 'fsync', fail_to_sync)
        write(path, lambda rest: None if when == 'at first' else _fill(patch))()
    assert os.listdir(tmp_path) == ['epoch_1.dcp'] and sorted(os.listdir(path)) == before
    assert read_checkpoint(path)['meta']['iter'] == 2


def _fill(patch):
    """Once the rest is written."""
    sync, calls = os.fsync, []

    def fail(file):
        calls.append(file)
        return sync(file) if len(calls) < 3 else fail_to_sync(file)

    patch.setattr(os, 'fsync', fail)


def test_folders_are_listed_replaced_and_deleted_as_files_are(tmp_path, write):
    for number in (1, 2, 3, 3):
        write(tmp_path / f'epoch_{number}.dcp')()
    (tmp_path / 'epoch_4.dcp.unfinished').mkdir()
    (tmp_path / 'epoch_4.pth.unfinished').touch()
    names = [path.name for path in list_checkpoints(tmp_path)]
    assert names == ['epoch_3.dcp', 'epoch_2.dcp', 'epoch_1.dcp']
    keep_newest(tmp_path, 2)
    remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ['epoch_2.dcp', 'epoch_3.dcp']


def main(folder, *start):
    """Four iterations in shards, two of each step, saved in mid-step; or what is left of them."""
    prepare_process()
    changes = {**VARIANT, 'model_wrapper_cfg': dict(SHARDED), 'resume': bool(start)}
    run(changes, folder, launcher='pytorch', batch_size=8)
    finish_processes()


def take_over(path, folder):
    folder.mkdir()
    copy = shutil.copytree if path.is_dir() else shutil.copy
    copy(path, folder / path.name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('numbers', [(2, 1), pytest.param((4, 2), marks=pytest.mark.long)], ids=str)
def test_another_number_of_processes_goes_on(tmp_path, call_together, double, numbers):
    """Also of files in shards, and of shards without any."""

    def together(folder, number, *start):
        call_together(__file__, folder, *start, num_processes=number)

    def alone(folder, resume):
        run({**VARIANT, 'resume': resume}, folder, batch_size=8)
        return read_checkpoint(find_newest(folder)[0])

    together(tmp_path / 'shards', numbers[0])
    expected = alone(tmp_path / 'alone', False)
    names = ['iter_4', 'iter_3']
    assert [p.stem for p in list_checkpoints(tmp_path / 'shards')] == names
    file, folder = tmp_path / 'alone/iter_3.pth', tmp_path / 'shards/iter_3.dcp'
    ends = [read_checkpoint(tmp_path / 'shards/iter_4.dcp')]
    ends.append(alone(take_over(folder, tmp_path / 'fewer'), True))
    together(take_over(file, tmp_path / 'more'), 2, 'resume')
    ends.append(read_checkpoint(tmp_path / 'more/iter_4.dcp'))
    if numbers[1] > 1:
        together(take_over(folder, tmp_path / 'some'), numbers[1], 'resume')
        ends.append(read_checkpoint(tmp_path / 'some/iter_4.dcp'))
    for end in ends:
        for part in ('state_dict', 'optimizer'):
            assert_close(end[part], expected[part], rtol=1e-8, atol=1e-10)
        assert end['meta']['iter'] == 4 and end['meta']['images_seen'] == 32
    assert not list(tmp_path.glob('*/*.unfinished'))


@pytest.mark.slow
def test_users_train_validate_keep_the_best_and_evaluate_the_folder(
    tiny_config, call_together, tmp_path
):
    tiny_config.pop('launcher')
    tiny_config.train_dataloader.batch_size = 2
    tiny_config.model_wrapper_cfg = {k: v for k, v in SHARDED.items() if k != '_delete_'}
    tiny_config.model_wrapper_cfg.param_dtype = tiny_config.optim_wrapper.dtype = 'bfloat16'
    tiny_config.train_cfg.update(max_epochs=2, val_interval=1)
    tiny_config.default_hooks.temperature.warmup_epochs = 1
    tiny_config.default_hooks.monitor.interval = 1
    tiny_config.default_hooks.checkpoint.update(save_best='auto', max_keep_ckpts=1)
    tiny_config.dump(tmp_path / 'tiny.py')
    first, _ = call_together(TRAIN, tmp_path / 'tiny.py', '--launcher', 'pytorch')
    folders = sorted(path.name for path in (tmp_path / 'work_dir').glob('*.dcp*'))
    assert len(folders) == 2 and folders[1] == 'epoch_2.dcp' and folders[0].startswith('best_')
    assert (tmp_path / 'work_dir/last_checkpoint').read_text() == 'epoch_2.dcp'
    assert 'teacher_step' in first.stdout + first.stderr
    folder = tmp_path / 'work_dir/epoch_2.dcp'
    weights = read_checkpoint(folder)['state_dict']
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    backbone = dict(tiny_config.model.backbone, mask_token=False)
    backbone['init_cfg'] = dict(type='ibot_mm.Pretrained', checkpoint=str(folder))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        network = MODELS.build(backbone)
    network.init_weights()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, weights[f'teacher.backbone.{name}'])


if __name__ == '__main__':
    main(Path(sys.argv[1]), *sys.argv[2:])
