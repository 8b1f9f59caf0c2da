# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The model of a cluster counts what a training holds and sends."""

import collections
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.registry import MODEL_WRAPPERS, MODELS, DefaultScope
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import cost, scale_model, step_model
from benchmarks.step_model import LiveBytes, Training
from ibot_mm.functional.shards import local_parts

PAGE = Path(__file__).parents[2] / 'docs/scale.md'


def size_of(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Held(Hook):
    """Counts parameters, gradients and moments at a step."""

    def after_train_iter(self, runner, *args, **kwargs):
        self.moments = [
            tensor
            for state in runner.optim_wrapper.optimizer.state.values()
            for tensor in state.values()
            if tensor.ndim
        ]

    def before_train(self, runner):
        self.model = runner.model
        runner.optim_wrapper.optimizer.register_step_pre_hook(self.before_step)

    def before_step(self, *args):
        parameters = list(self.model.parameters())
        self.others = size_of(parameters + [p.grad for p in parameters if p.grad is not None])


def test_the_state_is_that_of_a_training(tiny_config, train):
    held = Held()
    train(tiny_config, held)
    training = Training(tiny_config)
    assert training.state_bytes() == held.others + size_of(held.moments)
    assert training.checkpoint_bytes == size_of([*held.model.parameters(), *held.moments])


@pytest.fixture
def fake_group():
    """Four processes, of which only this one is there; nothing is sent."""
    dist.init_process_group('fake', rank=0, world_size=4, store=FakeStore())
    yield
    dist.destroy_process_group()


class Sent(TorchDispatchMode):
    """Counts bytes of collectives by their names: of the larger side of each message."""

    def __init__(self):
        super().__init__()
        self.bytes = collections.Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == 'c10d':
            name = function.name().partition('::')[2].strip('_')
            tensors = torch.utils._pytree.tree_leaves(args)
            self.bytes[name] += max(size_of([t]) for t in tensors if isinstance(t, torch.Tensor))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize('wrapper', ['FSDP', 'HSDP'])
def test_shards_hold_and_send_as_the_model_says(tiny_config, fake_group, monkeypatch, wrapper):
    monkeypatch.setattr(step_model, 'MACHINE', 2)
    shards = 4 if wrapper == 'FSDP' else 2
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(tiny_config.model)
    wrapped = MODEL_WRAPPERS.build(
        dict(type='ibot_mm.ShardedDataParallel', module=model, num_shards=shards)
    )
    training = Training(tiny_config)
    weights = list(wrapped.parameters())
    trained = [weight for weight in weights if weight.requires_grad]
    held = size_of(local_parts(weights)) + 3 * size_of(local_parts(trained))
    assert held == training.state_bytes(shards)
    masks = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    masks[..., 1] = True
    crops = dict(global_crops=torch.rand(2, 2, 3, 16, 16), local_crops=torch.rand(2, 2, 3, 8, 8))
    with Sent() as sent:
        losses = wrapped(dict(crops, masks=masks), mode='loss')
        (losses['loss_cls'] + losses['loss_patch']).backward()
    of_shards = sent.bytes['allgather_base'] + sent.bytes['reduce_scatter_base']
    centers = 4 * 2 * tiny_config.model.head.num_prototypes
    of_copies = sent.bytes['allreduce'] - centers
    expected = dict(links=0, network=of_shards * 3 / 4)
    if wrapper == 'HSDP':
        expected = dict(links=of_shards / 2, network=of_copies)  # 2 * (2 - 1) / 2
    assert training.sent(wrapper, 4) == pytest.approx(expected)


def test_each_layer_adds_the_same(tiny_config):
    tiny_config.model.backbone.drop_path_rate = 0.0
    tiny_config.model.backbone.arch.num_layers = 5
    training = Training(tiny_config)
    assert training.operations == pytest.approx(cost.step_of(tiny_config).ours())
    for recomputed in (False, True):
        tiny_config.model.backbone.with_cp = recomputed
        whole = step_model.peak_bytes(cost.step_of(tiny_config), half=False)
        training.batch_size = cost.BATCH_SIZE
        assert training.activation_bytes(recomputed, half=False) == pytest.approx(whole, rel=0.01)


def test_bytes_live_as_long_as_their_tensors():
    x = torch.zeros(10)
    with LiveBytes() as live:
        y = x + 1
        z = (y * 2).exp()  # the product goes
        assert (live.live, live.peak) == (80, 120)
        del y
        assert live.live == 40 and len(z.view(2, 5)) == 2
        assert live.peak == 120


@pytest.mark.parametrize(
    'name',
    [
        *(pytest.param(name, marks=pytest.mark.slow) for name in ('memory', 'storage')),
        *(pytest.param(name, marks=pytest.mark.long) for name in ('step', 'epochs', 'calibration')),
    ],
)
def test_the_page_holds_what_the_command_prints(name):
    make = scale_model.make_tables(scale_model.Assumptions(**options()))[name]
    page = PAGE.read_text()
    command = 'run python -m benchmarks.scale_model --page docs/scale.md'
    assert scale_model.replace(page, name, make()) == page, command


def options():
    """Those of the page's command."""
    (command,) = (
        line for line in PAGE.read_text().splitlines() if 'benchmarks.scale_model' in line
    )
    args = vars(scale_model.parse_args(command.split()[3:]))
    assert args == vars(scale_model.parse_args([]))
    return {key: value for key, value in args.items() if key != 'page'}
