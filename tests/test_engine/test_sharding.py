# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Processes that share weights, gradients and moments train as one process with all of them."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from equal_training import SPOILT, VARIANTS, prepare_process, run
from mmengine.dist import all_gather_object, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS, MODELS, DefaultScope
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.testing._internal.distributed.fake_pg import FakeStore

from ibot_mm.engine import CheckpointHook
from ibot_mm.engine.checkpointing import load_weights
from ibot_mm.engine.distributed import finish_processes
from ibot_mm.engine.sharding import refuse_one_process
from ibot_mm.engine.sharding.units import find_blocks
from ibot_mm.functional.shards import check_torch, is_sharded, local_parts

BATCH_SIZE = 8
SHARDED = dict(_delete_=True, type='ibot_mm.ShardedDataParallel')
CLIPPED = {'optim_wrapper.clip_grad.max_norm': 0.01, 'default_hooks.monitor.interval': 2}
OPTIONS = {
    'clipped and monitored': CLIPPED,
    'Sinkhorn, separate MLPs for patches': VARIANTS['Sinkhorn, separate MLPs for patches'],
    'synchronized batch norm': VARIANTS['synchronized batch norm'],
    'accumulated, checkpointed, frozen': VARIANTS['accumulated, checkpointed, frozen'],
    'all crops in one pass, checkpointed': {
        'model.pack_crops': True,
        'model.backbone.with_cp': True,
    },
    'one process overflows': SPOILT,
    'one process overflows, not fused': VARIANTS['one process overflows, not fused'],
    'prototypes without bottleneck': {'model.neck.bottleneck_channels': 0},
    'fixed gains': {'model.neck.norm_last_layer': True},
}


class Bytes(Hook):
    """Counts what this process holds of parameters, gradients and moments."""

    def before_train(self, runner):
        self.model, self.optimizer = runner.model, runner.optim_wrapper.optimizer
        self.handle = self.optimizer.register_step_pre_hook(self.before_step)

    def before_step(self, *args):
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        self.number = sum(map(size_of, local_parts([*self.model.parameters(), *gradients])))

    def after_train(self, runner):
        self.handle.remove()
        states = self.optimizer.state.values()
        moments = [tensor for state in states for tensor in state.values() if tensor.ndim]
        self.number += sum(map(size_of, local_parts(moments)))


def size_of(tensor):
    return tensor.numel() * tensor.element_size()


def train(options, folder, wrapper=None):
    """Final state, losses and norms, whole and the same on all processes; and bytes of each."""
    launcher = 'none' if get_world_size() == 1 and wrapper is None else 'pytorch'
    changes = options if wrapper is None else {**options, 'model_wrapper_cfg': dict(wrapper)}
    counted = Bytes()
    runner, losses = run(changes, folder, counted, launcher=launcher, batch_size=BATCH_SIZE)
    model = runner.model if launcher == 'none' else runner.model.module
    assert any(map(is_sharded, model.parameters())) == (wrapper is not None)
    hub = MessageHub.get_current_instance()
    scalars = {
        name: torch.from_numpy(hub.get_scalar(f'train/{name}').data[0])
        for name in ('grad_norm', 'teacher_step')
        if f'train/{name}' in hub.log_scalars and is_main_process()
    }
    state = {n: t.full_tensor() if is_sharded(t) else t for n, t in model.state_dict().items()}
    return dict(state, losses=losses, **scalars), all_gather_object(counted.number)


def variants(number):
    """Each option on 2 processes, and on 2 times 2; the first two also on 4."""
    return [(name, 2) for name in OPTIONS] + [(name, 4) for name in list(OPTIONS)[: number - 2]]


def main(folder):
    """Each variant by each kind of shards, in the processes of a group."""
    prepare_process()
    for name, num_shards in variants(int(os.environ['WORLD_SIZE'])):
        wrapper = dict(SHARDED, num_shards=num_shards)
        content = train(OPTIONS[name], folder / 'together', wrapper)
        if is_main_process():
            torch.save(content, folder / f'{name}, {num_shards}.pth')
    finish_processes()


@pytest.mark.slow
@pytest.mark.parametrize('number', [2, pytest.param(4, marks=pytest.mark.long)])
def test_shards_train_as_one_process(tmp_path, call_together, double, number):
    call_together(__file__, tmp_path, num_processes=number)
    alone = {name: train(options, tmp_path / 'alone') for name, options in OPTIONS.items()}
    for name, num_shards in variants(number):
        expected, (whole,) = alone[name]
        together, held = torch.load(tmp_path / f'{name}, {num_shards}.pth')
        torch.testing.assert_close(together, expected, rtol=1e-8, atol=1e-10, equal_nan=True)
        assert sum(held) == whole * number / num_shards  # nothing is held twice by those that share
        assert max(held) < 1.3 * whole / num_shards
        assert bool(expected['losses'].isfinite().all()) != ('overflows' in name)
    assert 'teacher_step' in alone['clipped and monitored'][0]


@pytest.fixture
def fake_group():
    """Four processes, of which only this one is there; nothing is sent."""
    dist.init_process_group('fake', rank=0, world_size=4, store=FakeStore())
    yield
    dist.destroy_process_group()


@pytest.fixture
def model(tiny_config):
    tiny_config.model.backbone.with_cp = True
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(tiny_config.model)


def wrap(model, **options):
    return MODEL_WRAPPERS.build(dict(type='ibot_mm.ShardedDataParallel', module=model, **options))


def test_every_weight_is_shared_and_takes_its_part_of_whole_ones(model, fake_group):
    model.init_weights()
    whole = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wrapper = wrap(model)
    assert is_model_wrapper(wrapper) and not hasattr(wrapper.module, 'init_weights')
    assert all(map(is_sharded, wrapper.parameters()))
    assert not model.backbone.with_cp  # its blocks do it
    units = [name for name, part in model.named_modules() if isinstance(part, FSDPModule)]
    blocks = [f'{network}layers.{i}' for network in ('backbone.', 'teacher.backbone.')
              for i in range(2)]  # fmt: skip
    assert sorted(units) == sorted(['', *blocks, 'neck', 'teacher.neck'])
    model.load_state_dict(whole)
    for name, tensor in model.state_dict().items():
        first = whole[name].chunk(4)[0] if is_sharded(tensor) else whole[name]
        torch.testing.assert_close(*local_parts([tensor, first]), rtol=0, atol=0)
        assert tensor.shape == whole[name].shape


def test_shards_start_from_a_checkpoint(tiny_config, model, fake_group, tmp_path):
    """By init_cfg, before they are shared; by load_from, after that."""
    model.init_weights()
    whole = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.save(dict(state_dict=whole), tmp_path / 'x.pth')
    tiny_config.model.backbone.init_cfg = dict(
        type='ibot_mm.Pretrained', checkpoint=str(tmp_path / 'x.pth'), network='student'
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        started, loaded = (wrap(MODELS.build(tiny_config.model)).module for _ in range(2))
    start_weights = {name: tensor for name, tensor in whole.items() if name.startswith('backbone')}
    for name, tensor in start_weights.items():
        part = started.get_parameter(name).to_local()
        torch.testing.assert_close(part, tensor.chunk(4)[0], rtol=0, atol=0)
    larger = tiny_config.model.backbone.img_size * 2
    whole['backbone.pos_embed'] = torch.rand(1, 1 + (larger // 4) ** 2, 16)  # is resized
    torch.save(dict(state_dict=whole), tmp_path / 'x.pth')
    load_weights(loaded, tmp_path / 'x.pth')
    part = loaded.neck.layers[0].weight.to_local()
    torch.testing.assert_close(part, whole['neck.layers.0.weight'].chunk(4)[0], rtol=0, atol=0)
    assert loaded.backbone.pos_embed.to_local().shape == (1, 17, 16)
    assert not torch.equal(
        loaded.backbone.pos_embed.to_local(), started.backbone.pos_embed.to_local()
    )


def test_recomputation_and_compiling_hold_for_each_block(model, fake_group, monkeypatch):
    compiled = []
    model.compile_backbone = True
    model.backbone.compile()
    monkeypatch.setattr(torch, 'compile', lambda method: compiled.append(method) or method)
    wrap(model)
    names = [method.__name__ for method in compiled]
    assert names == 2 * 2 * ['forward', 'forward_rows']  # of two blocks of two networks
    assert all(hasattr(method, '__wrapped__') for method in compiled)  # recomputed within
    assert model.backbone._compiled_call_impl is None


def test_a_backbone_that_compiles_in_its_own_way_is_refused(model, fake_group):
    class Own(type(model.backbone)):
        def compile(self):
            pass

    model.backbone.__class__ = Own
    model.compile_backbone = True
    with pytest.raises(ValueError, match='Own cannot be compiled block by block'):
        wrap(model)


def test_the_patch_embedding_starts_in_parts(model, fake_group):
    wrap(model)
    weight, bias = torch.rand(16, 48), torch.rand(16)
    model.start_patch_embedding(weight, bias)
    for backbone in (model.backbone, model.teacher.backbone):
        layer = backbone.patch_embed.projection
        assert torch.equal(layer.weight.to_local().flatten(1), weight[:4])
        assert torch.equal(layer.bias.to_local(), bias[:4])


def test_files_of_shards_are_not_published(model, fake_group):
    runner = SimpleNamespace(model=wrap(model))
    with pytest.raises(ValueError, match='no published_keys .*/merge_shards.py'):
        CheckpointHook(published_keys='state_dict').before_train(runner)


def test_replicas_share_the_weights_in_groups(model, fake_group):
    assert wrap(model, num_shards=2).mesh.shape == (2, 2)


@pytest.mark.parametrize('number', [0, 1, 3, 8, 2.0, '2', True])
def test_groups_must_divide_the_processes(model, fake_group, number):
    with pytest.raises(ValueError, match=f'num_shards is {number!r}: 4 processes .* by 2, 4, or'):
        wrap(model, num_shards=number)


def test_one_process_shares_nothing(model, tiny_config):
    with pytest.raises(ValueError, match='there is one: start several, as by tools/dist_train.sh'):
        wrap(model)
    tiny_config.model_wrapper_cfg = dict(type='ibot_mm.ShardedDataParallel')
    with pytest.raises(ValueError, match='there is one: start several'):
        refuse_one_process(tiny_config)
    tiny_config.launcher = 'pytorch'
    refuse_one_process(tiny_config)


def test_types_have_names_of_torch(model):
    with pytest.raises(ValueError, match="param_dtype is 'half'.* bfloat16"):
        wrap(model, param_dtype='half')


def test_an_optimizer_that_reads_whole_weights_is_refused(model, fake_group):
    wrapper = wrap(model)
    optimizer = torch.optim.LBFGS(wrapper.parameters())
    with pytest.raises(TypeError, match='LBFGS cannot train shards.*AdamW'):
        wrapper.train_step({}, OptimWrapper(optimizer))


def test_types_need_autocast_of_the_same(model, fake_group):
    wrapper = wrap(model, param_dtype='bfloat16')
    optimizer = OptimWrapper(torch.optim.AdamW(wrapper.parameters()))
    with pytest.raises(ValueError, match='param_dtype=bfloat16 needs mixed precision.*got None'):
        wrapper.train_step({}, optimizer)


def test_backbones_without_blocks_are_refused():
    with pytest.raises(ValueError, match='Linear does not have its blocks in layers or blocks'):
        find_blocks(nn.Linear(1, 1))


def test_an_old_torch_is_refused(monkeypatch):
    check_torch()
    monkeypatch.setattr(torch.distributed.checkpoint, 'load', lambda state_dict: None)
    with pytest.raises(RuntimeError, match='newer torch than'):
        check_torch()


if __name__ == '__main__':
    main(Path(sys.argv[1]))
