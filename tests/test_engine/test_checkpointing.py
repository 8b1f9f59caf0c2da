# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Files of checkpoints: whole or not there, checked, found, read without running them."""

import errno
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from ibot_mm.engine.checkpointing import (
    CheckpointFileError,
    find_fault,
    find_newest,
    force_safe_loading,
    list_checkpoints,
    load_weights,
    read_checkpoint,
    set_aside,
    write_checkpoint,
)
from ibot_mm.engine.checkpointing.compare import first_difference
from ibot_mm.engine.checkpointing.settings import describe_differences
from ibot_mm.engine.checkpointing.write import plain


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, 'w'))


@pytest.fixture
def content():
    return dict(state_dict=OrderedDict(weight=torch.arange(1000.0)), meta=dict(epoch=1, iter=2))


def test_a_checkpoint_comes_back_as_plain_data(tmp_path):
    content = dict(
        state_dict=OrderedDict(weight=torch.ones(2), center=torch.zeros(1, dtype=torch.bfloat16)),
        message_hub=dict(score=np.float64(0.5), counts=np.arange(3), names=('a', None, True)),
        kind=nn.Linear,
    )
    content['state_dict']._metadata = {'': dict(version=1)}
    write_checkpoint(content, tmp_path / 'x.pth')
    found = torch.load(tmp_path / 'x.pth', weights_only=True)  # without any allow-list
    assert found['state_dict']._metadata == {'': dict(version=1)}
    assert torch.equal(found['state_dict']['weight'], torch.ones(2))
    assert found['message_hub'] == dict(score=0.5, counts=[0, 1, 2], names=('a', None, True))
    assert type(found['message_hub']['score']) is float
    assert found['kind'] == str(nn.Linear)


def damage(path, kind):
    data = path.read_bytes()
    if kind == 'missing':
        path.unlink()
    elif kind == 'empty':
        path.write_bytes(b'')
    elif kind == 'truncated':
        path.write_bytes(data[: len(data) // 2])
    elif kind == 'a byte changed':
        start = data.index(torch.arange(1000.0).numpy().tobytes())
        path.write_bytes(data[: start + 99] + bytes([data[start + 99] ^ 1]) + data[start + 100 :])


FAULTS = {
    'missing': 'is not there',
    'empty': 'is empty',
    'truncated': 'is not complete',
    'a byte changed': 'is damaged .checksum of its record',
}


@pytest.mark.parametrize('kind', FAULTS)
def test_damaged_files_are_recognized_and_the_one_before_is_taken(tmp_path, content, kind):
    write_checkpoint(content, tmp_path / 'epoch_9.pth')
    write_checkpoint(content, tmp_path / 'epoch_10.pth')
    assert find_fault(tmp_path / 'epoch_10.pth') is None
    damage(tmp_path / 'epoch_10.pth', kind)
    with pytest.raises(CheckpointFileError, match=FAULTS[kind]):
        read_checkpoint(tmp_path / 'epoch_10.pth')
    newest, passed = find_newest(tmp_path)
    assert newest == tmp_path / 'epoch_9.pth'
    assert [path.name for path, _ in passed] == ['epoch_10.pth'] * (kind != 'missing')


def test_newest_goes_by_the_name_whatever_the_dates(tmp_path):
    names = ['epoch_2.pth', 'epoch_10.pth', 'epoch_10_iter_3.pth', 'epoch_9_iter_77.pth']
    for number, name in enumerate([*names, 'best_top1_epoch_99.pth', 'nonfinite_epoch_99.pth']):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - number, 1000 - number))
    found = [path.name for path in list_checkpoints(tmp_path)]
    assert found == ['epoch_10_iter_3.pth', 'epoch_10.pth', 'epoch_9_iter_77.pth', 'epoch_2.pth']


def test_what_is_set_aside_is_kept(tmp_path):
    for _ in range(2):
        (tmp_path / 'epoch_1.pth').touch()
        (tmp_path / 'last_checkpoint').write_text('epoch_1.pth')
        set_aside(list_checkpoints(tmp_path), 'Starting again')
        assert not list(tmp_path.glob('*.pth')) and not (tmp_path / 'last_checkpoint').exists()
    assert len(list(tmp_path.glob('before_*/epoch_1.pth'))) == 2


@pytest.mark.parametrize('is_full', [False, True])
def test_a_failed_save_leaves_the_file_of_before(tmp_path, content, monkeypatch, is_full):
    path = tmp_path / 'epoch_1.pth'
    write_checkpoint(content, path)

    def fail(*args):
        raise OSError(errno.ENOSPC, 'No space left on device') if is_full else KeyboardInterrupt

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError if is_full else KeyboardInterrupt):
        write_checkpoint(dict(content, meta={}), path)
    assert first_difference(content, read_checkpoint(path)) is None
    assert [entry.name for entry in tmp_path.iterdir()] == ['epoch_1.pth']


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no device that is always full')
def test_torch_reports_a_full_disk_as_one():
    from ibot_mm.engine.checkpointing import write

    with pytest.raises(OSError) as caught, open('/dev/full', 'wb') as stream:
        try:
            torch.save(dict(weight=torch.zeros(1 << 20)), stream)
        except RuntimeError as error:
            write._raise_as_os_error(error)
    assert caught.value.errno == errno.ENOSPC


def test_hostile_files_are_refused_and_not_run(tmp_path, content):
    mark = tmp_path / 'mark'
    torch.save(dict(content, extra=Hostile(mark)), tmp_path / 'x.pth')
    with pytest.raises(CheckpointFileError, match='refused: it holds more than data'):
        read_checkpoint(tmp_path / 'x.pth')
    with pytest.raises(CheckpointFileError, match='refused'):
        load_weights(nn.Linear(2, 2), tmp_path / 'x.pth')
    (tmp_path / 'old.pth').write_bytes(pickle.dumps(Hostile(mark)))
    with pytest.raises(CheckpointFileError):
        read_checkpoint(tmp_path / 'old.pth')
    assert not mark.exists()


def test_forced_safety_binds_every_loader(tmp_path, content, monkeypatch):
    """mmengine's falls back to unpickling, upstream's does nothing else with older torch."""
    from mmengine.runner import load_checkpoint

    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
    force_safe_loading()
    mark = tmp_path / 'mark'
    torch.save(dict(content, extra=Hostile(mark)), tmp_path / 'x.pth')
    for load in (
        lambda path: load_checkpoint(nn.Linear(2, 2), str(path)),
        lambda path: torch.load(path, weights_only=False),
    ):
        with pytest.raises(pickle.UnpicklingError):
            load(tmp_path / 'x.pth')
    assert not mark.exists()


def test_checkpoints_of_mmengine_are_read_with_their_histories(tmp_path, content):
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    hub = dict(log_scalars=dict(loss=history), runtime_info=dict(score=np.float32(2)))
    torch.save(dict(content, message_hub=hub), tmp_path / 'x.pth')
    found = read_checkpoint(tmp_path / 'x.pth')['message_hub']
    assert type(found['log_scalars']['loss']) is HistoryBuffer
    assert found['log_scalars']['loss'].data[0].tolist() == [1.0, 2.0]
    assert found['runtime_info']['score'] == 2
    assert 'min' in HistoryBuffer._statistics_methods


def test_weights_that_do_not_fit_at_all_are_an_error(tmp_path, content):
    write_checkpoint(content, tmp_path / 'x.pth')
    with pytest.raises(CheckpointFileError, match="no weight of the model: it names 'weight'"):
        load_weights(nn.Linear(2, 2), tmp_path / 'x.pth')
    write_checkpoint(dict(state_dict=nn.Linear(2, 2).state_dict()), tmp_path / 'x.pth')
    model = nn.Linear(2, 2)
    load_weights(model, tmp_path / 'x.pth', strict=True)
    with pytest.raises(CheckpointFileError, match='does not fit the model'):
        load_weights(nn.Linear(2, 2, bias=False), tmp_path / 'x.pth', strict=True)


def test_differences_of_settings_say_what_they_do():
    old = plain({'train_cfg.max_epochs': 5, 'optim_wrapper.betas': (0.9, 0.99), 'work_dir': 'a'})
    new = {
        'train_cfg.max_epochs': 10,
        'optim_wrapper.betas': [0.9, 0.99],
        'work_dir': 'b',
        'world_size': 2,
    }
    assert describe_differences(old, new) == [
        'train_cfg.max_epochs: 5 -> 10: the run ends there, and every schedule is that of such a '
        'run',
        "world_size: '(not set)' -> 2: the epoch has another number of iterations; the run ends "
        'where the config says; the learning rate is scaled if auto_scale_lr is enabled',
    ]
