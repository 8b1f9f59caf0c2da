# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Private attributes of mmengine mean what their names here say; nobody else reads them."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.logging import MessageHub

from ibot_mm.engine import mmengine_state

PACKAGE = Path(mmengine_state.__file__).parents[1]


@pytest.fixture
def runner(tiny_config, train):
    tiny_config.train_cfg.max_epochs = 2
    tiny_config.default_hooks.checkpoint.update(interval=-1, save_last=False)
    tiny_config.optim_wrapper.accumulative_counts = 2
    return train(tiny_config)


def test_state_of_a_runner(runner):
    assert mmengine_state.is_training(runner) and mmengine_state.is_loaded(runner)
    assert mmengine_state.requested_start(runner) == (None, False)
    assert mmengine_state.randomness_of(runner) == dict(runner.cfg.randomness)
    assert mmengine_state.accumulation_of(runner.optim_wrapper) == 2
    mmengine_state.set_progress(runner.train_loop, 7, 70)
    assert (runner.epoch, runner.iter) == (7, 70)
    runner._has_loaded = False
    mmengine_state.mark_loaded(runner)
    runner.load_or_resume()  # would look for a checkpoint
    assert mmengine_state.is_loaded(runner)


def test_state_of_a_hub():
    hub = MessageHub('test_state_of_a_hub')
    hub.update_scalar('loss', 2.0, resumed=True)
    hub.update_scalar('time', 1.0, resumed=False)
    assert mmengine_state.histories_of(hub)['loss'].data[0].tolist() == [2.0]
    assert mmengine_state.resumed_keys_of(hub) == dict(loss=True, time=False)


def test_a_sampler_begins_again_with_its_present_seed():
    sampler = InfiniteSampler(torch.arange(50), seed=1)
    sampler.seed = 2
    mmengine_state.begin_again(sampler)
    expected = iter(InfiniteSampler(torch.arange(50), seed=2))
    indices = iter(sampler)
    assert [next(indices) for _ in range(60)] == [next(expected) for _ in range(60)]


def test_private_attributes_of_mmengine_are_read_here_only():
    private = re.compile(r'\b(runner|loop|hub|message_hub|wrapper|optim_wrapper)\._[a-z]')
    users = [path.name for path in PACKAGE.rglob('*.py') if private.search(path.read_text())]
    assert users == ['mmengine_state.py']
