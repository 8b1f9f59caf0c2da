# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Whole small trainings as they look on Windows and on Apple's MPS, and what may be imported there.

Both are simulated: what Windows lacks is taken away, and a device 'mps' is made of the CPU that
refuses float64 as MPS does. Kernels of MPS are not run.
"""

import ast
import os
import signal
import sys
from functools import wraps
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.runner import ValLoop
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from ibot_mm.engine.checkpointing import find_newest, read_checkpoint, write
from ibot_mm.engine.checkpointing.compare import first_difference
from ibot_mm.engine.checkpointing.stopping import StopSignals
from ibot_mm.engine.hooks import training_log
from ibot_mm.engine.loops import EpochBasedTrainLoop

pytestmark = pytest.mark.slow

PACKAGE = Path(__file__).parents[2] / 'ibot_mm'
OF_POSIX = {'fcntl', 'grp', 'pty', 'pwd', 'resource', 'syslog', 'termios'}
SIGNALS = {name for name in dir(signal) if name.startswith('SIG')} - {
    *('SIGABRT', 'SIGFPE', 'SIGILL', 'SIGINT', 'SIGSEGV', 'SIGTERM'), *('SIG_DFL', 'SIG_IGN')
}  # fmt: skip


def end_of(cfg):
    return read_checkpoint(find_newest(cfg.work_dir)[0])


@pytest.fixture
def on_cpu(tiny_config, train, tmp_path):
    """The end of a training on this machine; the config, for the same on another one."""
    tiny_config.default_hooks.checkpoint.interval = 3
    tiny_config.work_dir = str(tmp_path / 'here')
    train(tiny_config)
    tiny_config.work_dir = str(tmp_path / 'there')
    return tiny_config, read_checkpoint(tmp_path / 'here/epoch_3.pth')


@pytest.fixture
def windows(monkeypatch):
    """No module `resource`, no signals of POSIX, folders that cannot be opened."""
    monkeypatch.setitem(sys.modules, 'resource', None)
    monkeypatch.setattr(training_log, 'resource', None)
    monkeypatch.setattr('platform.system', lambda: 'Windows')
    for name in SIGNALS:
        monkeypatch.delattr(signal, name)
    of_windows = ModuleType('os')
    vars(of_windows).update(vars(os), name='nt', open=lambda *args: pytest.fail('of a folder'))
    monkeypatch.setattr(write, 'os', of_windows)


def test_a_training_as_on_windows(on_cpu, train, windows):
    cfg, expected = on_cpu
    runner = train(cfg)
    assert first_difference(expected, end_of(cfg)) is None
    assert 'train/memory' not in runner.message_hub.log_scalars


def test_a_stop_as_on_windows(windows):
    signals = StopSignals()
    signals.install()
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        signals.remove()
    assert signals.received == 'SIGTERM'


class ToMps(TorchFunctionMode):
    """Takes the CPU where a tensor is sent to MPS, and counts how often."""

    num_sent = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        def place(value):
            if str(value).partition(':')[0] != 'mps':
                return value
            self.num_sent += 1
            return torch.device('cpu')

        def replace(value):
            return place(value) if isinstance(value, str | torch.device) else value

        if function.__name__ == '_parse_to':  # modules only read it, and send their tensors
            return function(*args, **(kwargs or {}))
        return function(*tree_map(replace, args), **tree_map(replace, kwargs or {}))


class WithoutFloat64(TorchDispatchMode):
    """Refuses what MPS refuses; as a decorator, within a function."""

    def __call__(self, function):
        @wraps(function)
        def run(*args, **kwargs):
            with WithoutFloat64():
                return function(*args, **kwargs)

        return run

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor) and value.dtype == torch.float64:
                raise TypeError(f'{function}: the MPS framework does not support float64')
        return result


@pytest.fixture
def mps(monkeypatch):
    """A device 'mps', as mmengine finds it on an Apple machine."""
    monkeypatch.setattr('mmengine.device.utils.DEVICE', 'mps')
    for loop in (EpochBasedTrainLoop, ValLoop):  # an iteration with all its hooks
        monkeypatch.setattr(loop, 'run_iter', WithoutFloat64()(loop.run_iter))
    with ToMps() as mode:
        yield mode


@pytest.mark.parametrize('dtype', [None, 'float16', 'bfloat16'])
def test_a_training_as_on_mps_is_in_float32(on_cpu, train, mps, dtype):
    cfg, expected = on_cpu
    cfg.optim_wrapper.dtype = dtype
    runner = train(cfg)
    assert first_difference(expected, end_of(cfg)) is None
    assert mps.num_sent > 20
    log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    assert 'Mixed precision needs a GPU: training in float32 on MPS.' in log


def test_mps_is_simulated_as_it_is():
    with WithoutFloat64(), pytest.raises(TypeError, match='float64'):
        torch.ones(2).double()


def tries(tree):
    """Nodes that stand in a `try`."""
    return {
        id(node)
        for attempt in ast.walk(tree)
        if isinstance(attempt, ast.Try)
        for node in ast.walk(attempt)
    }


def names_of(node):
    """Modules that a node imports, or the attribute that it reads of a name."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or '']
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return [f'{node.value.id}.{node.attr}']
    return []


def test_nothing_is_needed_that_windows_lacks():
    absent = {f'signal.{name}' for name in SIGNALS}
    absent |= {'os.fork', 'os.getuid', 'os.killpg', 'os.uname', 'os.O_DIRECTORY'}
    faults = []
    for path in PACKAGE.rglob('*.py'):
        tree = ast.parse(path.read_text())
        tried = tries(tree)
        for node in ast.walk(tree):
            for name in names_of(node):
                if name in absent or (name in OF_POSIX and id(node) not in tried):
                    faults.append(f'{path.relative_to(PACKAGE)}: {name}')
    assert not faults
