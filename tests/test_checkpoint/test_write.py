# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Writing files: whole, once, and named by their content."""

import re

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from safetensors import safe_open

from ibot_mm.checkpoint import (
    Checkpoint,
    CheckpointError,
    publish,
    write_weights,
)
from ibot_mm.checkpoint.write import hash_of, write_folder

WEIGHTS = {'a.weight': torch.arange(6.0).view(2, 3), 'b': torch.ones(2)}


def tensors_of(location):
    return Checkpoint.open(location).tensors


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_weights_and_meta_come_back(ending, tmp_path):
    path = write_weights(tmp_path / f'new/x.{ending}', WEIGHTS, dict(cfg='x = 1', epoch=3))
    prefix = 'state_dict.' if ending == 'pth' else ''
    read = tensors_of(path)
    assert set(read) == {prefix + name for name in WEIGHTS}
    assert all(torch.equal(read[prefix + name], tensor) for name, tensor in WEIGHTS.items())
    meta = dict(Checkpoint.open(path).meta)
    assert (meta.pop('cfg'), meta.pop('epoch')) == ('x = 1', 3) and set(meta) == {'ibot_mm_version'}
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_transformers_and_mmengine_read_them(tmp_path):
    with safe_open(write_weights(tmp_path / 'x.safetensors', WEIGHTS), 'pt') as opened:
        assert opened.metadata()['format'] == 'pt'
    path = write_weights(tmp_path / 'x.pth', WEIGHTS)
    assert set(CheckpointLoader.load_checkpoint(str(path))['state_dict']) == set(WEIGHTS)


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_tensors_that_share_memory_are_written_alone(ending, tmp_path):
    memory = torch.randn(1000, 4)
    path = write_weights(tmp_path / f'x.{ending}', dict(a=memory[:2], b=memory[:2].T, c=memory[1]))
    assert path.stat().st_size < 4000
    read = tensors_of(path)
    assert torch.equal(read['state_dict.b' if ending == 'pth' else 'b'], memory[:2].T)


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / 'x.pth'
    path.write_text('mine')
    with pytest.raises(CheckpointError, match='is there already'):
        write_weights(path, WEIGHTS)
    assert path.read_text() == 'mine'
    write_weights(path, WEIGHTS, overwrite=True)
    assert tensors_of(path)
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'folder/config.json').write_text('{}')
    with pytest.raises(CheckpointError, match=r'config\.json is there already'):
        write_folder(tmp_path / 'folder', WEIGHTS, {})
    write_folder(tmp_path / 'folder', WEIGHTS, dict(a=1), overwrite=True)
    assert tensors_of(tmp_path / 'folder').keys() == WEIGHTS.keys()


@pytest.mark.parametrize(
    'name, message',
    [
        ('x.bin', r'must end in \.safetensors or \.pth'),
        ('x', r'must end in \.safetensors or \.pth'),
        ('folder.pth', 'is a folder: name a file'),
    ],
)
def test_names_that_are_refused(name, message, tmp_path):
    (tmp_path / 'folder.pth').mkdir()
    with pytest.raises(CheckpointError, match=message):
        write_weights(tmp_path / name, WEIGHTS)


def test_folder_is_no_file(tmp_path):
    with pytest.raises(CheckpointError, match='must be a folder'):
        write_folder(tmp_path / 'x.safetensors', WEIGHTS, {})


def test_failed_writing_leaves_what_was_there(tmp_path, monkeypatch):
    def fail(content, path):
        path.write_text('half')
        raise OSError('disk full')

    path = write_weights(tmp_path / 'x.pth', WEIGHTS)
    monkeypatch.setattr(torch, 'save', fail)
    with pytest.raises(OSError, match='disk full'):
        write_weights(path, dict(other=torch.ones(1)), overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ['x.pth']
    assert len(tensors_of(path)) == 2


CHECKPOINT = dict(
    state_dict=WEIGHTS | {'teacher.c': torch.zeros(3)},
    ema_state_dict=dict(d=torch.zeros(5)),
    optimizer=dict(state={0: dict(exp_avg=torch.zeros(9))}, param_groups=[]),
    message_hub=dict(log_scalars=dict(loss=HistoryBuffer([1.0], [1]))),
    meta=dict(cfg='x = 1', epoch=3, dataset_meta=dict(classes=('a', 'b')), time=HistoryBuffer()),
)


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_publish(ending, tmp_path):
    torch.save(CHECKPOINT, tmp_path / 'epoch_3.pth')
    path, left_out = publish(tmp_path / 'epoch_3.pth', tmp_path / f'out/model.{ending}')
    assert left_out == ['ema_state_dict.d']
    digest = hash_of(CHECKPOINT['state_dict'])
    assert path.name == f'model-{digest[:8]}.{ending}'
    assert re.search(r'-([a-f0-9]*)\.', path.name)[1] == digest[:8]  # torch's and mm's rule
    prefix = 'state_dict.' if ending == 'pth' else ''
    read = tensors_of(path)
    assert set(read) == {prefix + name for name in CHECKPOINT['state_dict']}
    assert all(torch.equal(read[prefix + n], t) for n, t in CHECKPOINT['state_dict'].items())
    meta = dict(Checkpoint.open(path).meta)
    assert (meta['cfg'], meta['epoch']) == ('x = 1', 3)
    assert meta['dataset_meta'] == dict(classes=['a', 'b']) and 'time' not in meta
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_publish_a_checkpoint_of_published_code(tmp_path):
    """Which has no ``state_dict``; both networks stay."""
    content = dict(student=WEIGHTS, teacher=WEIGHTS, epoch=3, optimizer=dict(a=torch.ones(1)))
    torch.save(content, tmp_path / 'checkpoint.pth')
    path, left_out = publish(tmp_path / 'checkpoint.pth', tmp_path / 'model.safetensors')
    assert set(tensors_of(path)) == {f'{n}.{w}' for n in ('student', 'teacher')
                                               for w in WEIGHTS}  # fmt: skip
    assert not left_out


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_equal_tensors_get_equal_hashes(ending, tmp_path):
    """Whatever the file's name, the order of names and what is stored beside them."""
    names = set()
    for number, meta in enumerate((dict(epoch=3, cfg='x = 1'), dict(cfg='y = 2', epoch=4))):
        weights = dict(sorted(WEIGHTS.items(), reverse=bool(number)))
        torch.save(dict(state_dict=weights, meta=meta), tmp_path / f'{number}.pth')
        path, _ = publish(tmp_path / f'{number}.pth', tmp_path / f'out{number}/m{number}.{ending}')
        names.add(path.stem.split('-')[1])
    assert len(names) == 1
    torch.save({n: t + 1 for n, t in WEIGHTS.items()}, tmp_path / 'other.pth')
    assert publish(tmp_path / 'other.pth', tmp_path / f'm.{ending}')[0].stem[2:] not in names
