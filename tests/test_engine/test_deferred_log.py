# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import json
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub

from ibot_mm.engine.hooks.deferred_log import DeferredMessageHub


@pytest.fixture
def hub(request):
    hub = MessageHub.get_instance(request.node.name)
    hub.update_scalar('train/loss', 4.0)
    DeferredMessageHub.take_over(hub)
    return hub


def test_tensors_wait_until_their_key_is_read(hub):
    loss, norm = torch.tensor(3.0), torch.tensor(5.0)
    hub.update_scalar('train/loss', loss)
    hub.update_scalar('train/grad_norm', norm)
    hub.update_scalar('train/lr', 0.1)
    for tensor in (loss, norm):  # shows when a value is read
        tensor.mul_(2)
    assert hub.get_scalar('train/lr').current() == 0.1
    assert hub.get_scalar('train/loss').data[0].tolist() == [4.0, 6.0]
    norm.mul_(2)
    assert hub.get_scalar('train/grad_norm').current() == 20.0


@pytest.mark.parametrize(
    'read',
    [
        lambda hub: hub.log_scalars,
        lambda hub: hub.state_dict()['log_scalars'],
        lambda hub: hub.release() or hub.log_scalars,
    ],
    ids=['log_scalars', 'state_dict', 'release'],
)
def test_histories_are_complete_and_in_order(hub, read):
    for value in (3.0, 2.0):
        hub.update_scalar('train/loss', torch.tensor([value]), count=2)
    values, counts = read(hub)['train/loss'].data
    assert values.tolist() == [4.0, 3.0, 2.0] and counts.tolist() == [1, 2, 2]


def test_holds_no_graph(hub):
    hub.update_scalar('train/loss', torch.ones((), requires_grad=True) * 2)
    assert not any(value.requires_grad for value, _, _ in hub._waiting['train/loss'])


def test_unknown_key_and_bad_value(hub):
    with pytest.raises(KeyError, match='nothing is not found'):
        hub.get_scalar('nothing')
    hub.update_scalar('train/loss', torch.zeros(2))
    with pytest.raises(RuntimeError):
        hub.get_scalar('train/loss')


class Waiting(Hook):
    """Notes how many losses wait after each iteration."""

    priority = 'LOWEST'

    def __init__(self):
        self.numbers = []

    def after_train_iter(self, runner, *args, **kwargs):
        self.numbers.append(len(runner.message_hub._waiting.get('train/loss', [])))


def test_the_log_of_a_training_stays_the_same(tiny_config, train):
    """And losses are read at the logger's interval only."""

    def logged(runner):
        path = Path(runner.work_dir) / runner.timestamp / f'vis_data/{runner.timestamp}.json'
        kept = ('loss', 'loss_cls', 'grad_norm', 'lr', 'iter', 'step', 'agreement')
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [{key: line[key] for key in kept if key in line} for line in lines]

    tiny_config.train_cfg.max_epochs = 4
    tiny_config.train_dataloader.update(batch_size=2)  # 4 iterations an epoch
    tiny_config.default_hooks.logger.interval = 3
    waiting = Waiting()
    deferred = train(tiny_config, waiting)
    assert waiting.numbers[:8] == [1, 2, 0, 1, 1, 2, 0, 1]  # a checkpoint reads all
    assert type(deferred.message_hub) is MessageHub
    tiny_config.default_hooks.pop('deferred_log')
    plain = train(tiny_config)
    assert logged(deferred) == logged(plain) and len(logged(plain)) > 4
