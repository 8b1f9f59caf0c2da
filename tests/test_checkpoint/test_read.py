# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Reading files: what is read, what is refused, and why."""

import argparse
import io
import os
import pathlib
import pickle
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from ibot_mm.checkpoint import Checkpoint, CheckpointError, locate

WEIGHTS = {'layer.weight': torch.arange(6.0).view(2, 3), 'layer.bias': torch.ones(2)}


def tensors_of(location):
    return Checkpoint.open(location).tensors


def write(path, content):
    path.write_bytes(content)
    return path


def torch_bytes(content, **options):
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def safetensors_bytes(tmp_path):
    save_file(WEIGHTS, tmp_path / 'x')
    return (tmp_path / 'x').read_bytes()


def assert_weights(tensors, prefix=''):
    assert set(tensors) == {prefix + name for name in WEIGHTS}
    for name, tensor in WEIGHTS.items():
        assert torch.equal(tensors[prefix + name], tensor)


@pytest.mark.parametrize('new', [True, False], ids=['zip', 'old'])
def test_torch(new, tmp_path):
    path = tmp_path / 'x.pth'
    torch.save(dict(model=WEIGHTS), path, _use_new_zipfile_serialization=new)
    assert_weights(tensors_of(path), 'model.')


def test_safetensors_by_content(tmp_path):
    path = write(tmp_path / 'x.pth', safetensors_bytes(tmp_path))
    assert_weights(tensors_of(str(path)))


@pytest.mark.parametrize('first', [0x80, 0x20, 0x08])
def test_safetensors_whose_first_byte_looks_like_something_else(first, tmp_path):
    """It is part of the header's length; here a pickle's mark, a space and a backspace."""
    for length in range(300):
        save_file(WEIGHTS, tmp_path / 'x', metadata=dict(note='x' * length))
        if (tmp_path / 'x').read_bytes()[0] == first:
            break
    assert (tmp_path / 'x').read_bytes()[0] == first
    assert_weights(tensors_of(tmp_path / 'x'))


@pytest.mark.parametrize('new', [True, False], ids=['zip', 'old'])
def test_what_known_checkpoints_hold_beside_weights(new, tmp_path):
    """Settings and logs are read past, and no class of theirs is touched."""
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    methods = dict(history._statistics_methods)
    checkpoint = dict(
        state_dict=WEIGHTS,
        args=argparse.Namespace(lr=1e-3, output_dir=pathlib.Path('out')),
        message_hub=dict(log_scalars=dict(loss=history), runtime_info=dict(x=np.float64(1.5))),
        meta=dict(seed=np.int64(3), classes=('a', 'b'), array=np.arange(3)),
        param_schedulers=[dict(last_step=3, _get_lr_called_within_step=False)],
        epoch=4,
    )
    path, allowed = tmp_path / 'x.pth', set(torch.serialization.get_safe_globals())
    torch.save(checkpoint, path, _use_new_zipfile_serialization=new)
    assert_weights(tensors_of(path), 'state_dict.')
    assert HistoryBuffer._statistics_methods == methods
    assert set(torch.serialization.get_safe_globals()) == allowed


def test_checkpoint_of_a_training(tiny_config, train):
    """As the Runner stores it: optimizer, schedules, logs, metadata."""
    tiny_config.train_cfg.max_epochs = 2
    tiny_config.val_cfg = tiny_config.val_dataloader = tiny_config.val_evaluator = None
    runner = train(tiny_config)
    tensors = tensors_of(f'{tiny_config.work_dir}/epoch_2.pth')
    state = runner.model.state_dict()
    assert {f'state_dict.{name}' for name in state} == set(tensors)
    assert torch.equal(tensors['state_dict.backbone.pos_embed'], state['backbone.pos_embed'])


class Malicious:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Builtin(Malicious):
    def __reduce__(self):
        return eval, (f"__import__('os').system({self.command!r})",)


@pytest.mark.parametrize('kind', [Malicious, Builtin])
@pytest.mark.parametrize('new', [True, False], ids=['zip', 'old'])
def test_code_is_refused_and_not_run(kind, new, tmp_path):
    path, trace = tmp_path / 'x.pth', tmp_path / 'trace'
    content = dict(WEIGHTS, extra=kind(f'touch {trace}'))
    torch.save(content, path, _use_new_zipfile_serialization=new)
    with pytest.raises(
        CheckpointError, match=f'{path} is refused.*namely (posix.system|builtins.eval|eval),'
    ):
        tensors_of(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # it would have run
    assert trace.exists()


class Attribute:
    """Reaches for a function through what is let pass, then calls it."""

    def __reduce__(self):
        return Function(), ('touch',)


class Function:
    def __call__(self, *args):
        raise AssertionError

    def __reduce__(self):
        return getattr, (argparse.Namespace, '__init__')


def test_what_is_let_pass_gives_nothing_to_call(tmp_path):
    path = write(tmp_path / 'x.pth', torch_bytes(dict(WEIGHTS, extra=Attribute())))
    with pytest.raises(CheckpointError, match='is refused: it holds more than weights and would'):
        tensors_of(path)


def test_a_whole_module_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='namely torch.nn.modules.linear.Linear.*state dict'):
        tensors_of(tmp_path / 'x.pth')


def test_torch_script(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='TorchScript program'):
        tensors_of(tmp_path / 'x.pth')


MISTAKEN = {
    'a pickle, but none of torch': pickle.dumps(dict(weight=[1.0]), protocol=2),
    'empty: download': b'',
    'empty:': b'\n \n',
    'a web page': b'\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>',
    'a git-lfs pointer': b'version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n',
    'an archive: unpack': b'\x1f\x8b\x08\x00' + b'\x00' * 90,
    'JSON': b'{"architectures": ["ViTModel"]}',
    'neither a checkpoint of torch nor of safetensors': b'Not Found, but in many words',
}


@pytest.mark.parametrize('what', MISTAKEN)
def test_other_things_saved_as_checkpoint(what, tmp_path):
    path = write(tmp_path / 'x.pth', MISTAKEN[what])
    with pytest.raises(CheckpointError, match=f'{path} is {what}'):
        tensors_of(path)


@pytest.mark.parametrize('share', [0.2, 0.6, 0.99])
@pytest.mark.parametrize('kind', ['zip', 'old', 'safetensors'])
def test_truncated(kind, share, tmp_path):
    tensors = dict(weight=torch.randn(500))
    if kind == 'safetensors':
        save_file(tensors, tmp_path / 'x')
        content = (tmp_path / 'x').read_bytes()
    else:
        content = torch_bytes(tensors, _use_new_zipfile_serialization=kind == 'zip')
    path = write(tmp_path / 'x.pth', content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=rf'{path} \(\d+ bytes\) is damaged or not complete'):
        tensors_of(path)


@pytest.mark.parametrize(
    'content, held',
    [
        (torch.optim.Adam([torch.nn.Parameter(torch.ones(1))]).state_dict(), 'state, param_groups'),
        (dict(optimizer=dict(step=torch.ones(1)), epoch=1), 'optimizer, epoch'),
        ([1, 2], 'list'),
    ],
    ids=['optimizer', 'nested optimizer', 'list'],
)
def test_no_weights(content, held, tmp_path):
    path = write(tmp_path / 'x.pth', torch_bytes(content))
    with pytest.raises(CheckpointError, match=f'holds no weights of a network, only: {held}'):
        tensors_of(path)


def test_places_that_are_not_there(tmp_path):
    with pytest.raises(CheckpointError, match=f'{tmp_path}/x.pth is not there'):
        tensors_of(tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match=f'The folder {tmp_path} holds none of model.safe'):
        tensors_of(tmp_path)
    with pytest.raises(CheckpointError, match='s3://x: only http:// and https:// are read'):
        tensors_of('s3://x')


def test_parts_without_their_index(tmp_path):
    for number in (1, 2):
        weights = {f'w{number}': torch.zeros(2)}
        save_file(weights, tmp_path / f'model-0000{number}-of-00002.safetensors')
    with pytest.raises(CheckpointError, match='model-00001-of-00002.* get the file that ends in'):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize('kept', [100, 0.5, 0.99], ids=str)
def test_safetensors_that_are_cut_off(kept, tmp_path):
    path = tmp_path / 'model.safetensors'
    save_file({'w': torch.zeros(1000)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: kept if kept > 1 else int(kept * len(content))])
    with pytest.raises(CheckpointError, match='is damaged or not complete'):
        Checkpoint.open(path)


def test_folder_with_a_file_of_torch(tmp_path):
    write(tmp_path / 'pytorch_model.bin', torch_bytes(WEIGHTS))
    assert_weights(tensors_of(tmp_path))


class CountingHandler(SimpleHTTPRequestHandler):
    requests = []

    def do_GET(self):
        self.requests.append(self.path)
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Address of a server of this machine that serves a folder; torch's cache is empty."""
    folder = tmp_path / 'served'
    folder.mkdir()
    monkeypatch.setattr(CountingHandler, 'requests', [])
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    handler = partial(CountingHandler, directory=str(folder))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield folder, f'http://127.0.0.1:{http.server_port}'
        http.shutdown()


def test_address(server, tmp_path):
    """Downloaded once; equal names of different addresses do not mix."""
    folder, address = server
    for name, value in (('a', 1.0), ('b', 2.0)):
        (folder / name).mkdir()
        write(folder / name / 'model.pth', torch_bytes(dict(x=torch.tensor(value))))
    for _ in range(2):
        for name, value in (('a', 1.0), ('b', 2.0)):
            tensors = tensors_of(f'{address}/{name}/model.pth?download=true')
            assert tensors['x'] == value
    assert len(CountingHandler.requests) == 2


def test_address_with_a_hash_shares_torchs_cache(server, tmp_path):
    folder, address = server
    (tmp_path / 'hub/checkpoints').mkdir(parents=True)
    write(tmp_path / 'hub/checkpoints/vit-base-98e8652b.pth', torch_bytes(WEIGHTS))
    assert_weights(tensors_of(f'{address}/vit-base-98e8652b.pth'))
    assert not CountingHandler.requests


def test_address_that_fails(server, tmp_path):
    _, address = server
    with pytest.raises(CheckpointError, match=f'{address}/x.pth could not be downloaded: .*404'):
        tensors_of(f'{address}/x.pth')
    assert not list((tmp_path / 'hub').rglob('*.pth'))


def test_model_of_an_mm_package(server, monkeypatch):
    """The name leads to the address in the package's index of models."""
    folder, address = server
    name = 'mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k'
    found = locate.get_config(f'mmpretrain::{name}.py', pretrained=True).model_path
    assert found.startswith('https://') and found.endswith('.pth')
    write(folder / 'model.pth', torch_bytes(WEIGHTS))
    real = locate.get_config

    def local(*args, **kwargs):
        cfg = real(*args, **kwargs)
        cfg.model_path = f'{address}/model.pth'
        return cfg

    monkeypatch.setattr(locate, 'get_config', local)
    for suffix in ('.py', ''):
        assert_weights(tensors_of(f'mmpretrain::{name}{suffix}'))


@pytest.mark.parametrize(
    'name',
    ['mmpretrain::no/such_model.py', 'nopackage::x.py', 'mmpretrain::_base_/default_runtime.py'],
)
def test_model_that_is_not_there(name):
    with pytest.raises(CheckpointError, match=name.split('.')[0]):
        tensors_of(name)
