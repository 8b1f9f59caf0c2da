# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights, gradients and moments shared by processes: FSDP2 and HSDP under mmengine's Runner."""

from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import broadcast
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from ibot_mm.functional.shards import check_torch, is_sharded, shard_like
from ibot_mm.registry import MODEL_WRAPPERS

from .mesh import build_mesh
from .units import find_backbones, find_blocks, forward_methods, prepare_blocks

DTYPES = ('bfloat16', 'float16', 'float32', 'float64')
# Optimizers of torch that look at each weight by itself, so that parts do for the whole.
ELEMENTWISE = ('Adadelta', 'Adagrad', 'Adam', 'Adamax', 'AdamW', 'ASGD', 'NAdam', 'RAdam',
               'RMSprop', 'Rprop', 'SGD')  # fmt: skip


@MODEL_WRAPPERS.register_module()
class ShardedDataParallel(nn.Module):
    """Trains a model of which each process holds a part, by torch's ``fully_shard``.

    ``model_wrapper_cfg = dict(_delete_=True, type='ibot_mm.ShardedDataParallel')`` switches it on.
    It takes the place of ``MMDistributedDataParallel`` and gives the same losses and weights.

    Each block of every backbone, student's and teacher's, is a unit that is gathered when it runs
    and let go after it; so is each neck; the rest is the last unit. ``with_cp`` of a backbone and
    ``compile_backbone`` of the model hold for each block, within its unit. Weights are initialized
    (``init_cfg`` included) before they are sharded, so that they start as those of other trainings
    do; for that time each process holds the whole model.

    A wrapper and not a strategy: mmengine's strategies need its ``FlexibleRunner``, which has other
    attributes than the ``Runner`` that hooks, loops and tools know, and the one for FSDP is of
    FSDP1, whose checkpoints need the same number of processes. A wrapper leaves the Runner as it
    is. The Runner wraps a model before it initializes it; so this class initializes it first.

    Args:
        module (nn.Module): The model.
        num_shards (int, optional): Processes that share one copy of the weights. A divisor of their
            number, such as the GPUs of a machine, makes copies between which only gradients are
            averaged: HSDP. Defaults to None, all processes: FSDP.
        param_dtype (str, optional): What the blocks' weights are gathered and computed in, such as
            'bfloat16'. It needs an optimizer wrapper of mixed precision with the same ``dtype``,
            which casts all but norms and layer scales so in any case. Defaults to None, their own.
        reduce_dtype (str, optional): What gradients are averaged in. Defaults to None, that of the
            weights, float32.

    Raises:
        RuntimeError: If torch is too old.
        ValueError: If there is one process, ``num_shards`` does not divide their number, a dtype is
            unknown, a backbone does not show its blocks, or is compiled in a way of its own.
    """

    module: Any

    def __init__(
        self,
        module: nn.Module,
        num_shards: int | None = None,
        param_dtype: str | None = None,
        reduce_dtype: str | None = None,
    ) -> None:
        super().__init__()
        check_torch()
        dtypes = dict(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
        for name, dtype in dtypes.items():
            if dtype is not None and dtype not in DTYPES:
                raise ValueError(
                    f'model_wrapper_cfg.{name} is {dtype!r}: one of {", ".join(DTYPES)}, or None.'
                )
        self.param_dtype = _dtype(param_dtype)
        self.mesh = build_mesh(num_shards)
        self._optimizer: Any = None  # that was checked
        _initialize(module)
        _shard(module, self.mesh, self.param_dtype, _dtype(reduce_dtype))
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model."""
        return self.module(*args, **kwargs)

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Take a step, as ``MMDistributedDataParallel`` does, and return what is logged.

        Raises:
            TypeError: If the optimizer does not look at each weight by itself.
            ValueError: If ``param_dtype`` is set and the optimizer wrapper casts to another.
        """
        self._check_optimizer(optim_wrapper)
        with optim_wrapper.optim_context(self):
            self._check_precision()
            data = self.module.data_preprocessor(data, training=True)
            losses = self(**data, mode='loss')
        loss, log = self.module.parse_losses(losses)
        optim_wrapper.update_params(loss)
        return log

    def val_step(self, data: Any) -> list:
        """Predict, for validation."""
        return self._predict(self.module.val_step, data)

    def test_step(self, data: Any) -> list:
        """Predict, for a test."""
        return self._predict(self.module.test_step, data)

    def _predict(self, step: Any, data: Any) -> list:
        with torch.autocast(
            self.mesh.device_type, self.param_dtype, enabled=self.param_dtype is not None
        ):
            outputs: list = step(data)
        self.module.reshard()  # what a backward pass would have let go
        return outputs

    def _check_precision(self) -> None:
        if self.param_dtype is None:
            return
        device = self.mesh.device_type
        cast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        if cast != self.param_dtype:
            name = str(self.param_dtype).removeprefix('torch.')
            raise ValueError(
                f'model_wrapper_cfg.param_dtype={name} needs mixed precision of the same type, got '
                f"{cast}: set optim_wrapper.type='ibot_mm.PerParameterClipAmpOptimWrapper' and "
                f"optim_wrapper.dtype='{name}'."
            )

    def _check_optimizer(self, optim_wrapper: OptimWrapper) -> None:
        optimizer = getattr(optim_wrapper, 'optimizer', optim_wrapper)
        if optimizer is self._optimizer:
            return
        kind = type(optimizer)
        if kind.__name__ not in ELEMENTWISE or not kind.__module__.startswith('torch.optim'):
            raise TypeError(
                f'{kind.__name__} cannot train shards: it may need whole weights, where each '
                f'process has a part. Set optim_wrapper.optimizer.type to one of '
                f'{", ".join(ELEMENTWISE)}, or leave out model_wrapper_cfg.'
            )
        self._optimizer = optimizer


def _dtype(name: str | None) -> torch.dtype | None:
    return None if name is None else getattr(torch, name)


def _initialize(module: Any) -> None:
    """Give a whole model its first weights, the same in all processes."""
    if hasattr(module, 'init_weights'):
        module.init_weights()
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            broadcast(tensor)


def _shard(
    module: Any, mesh: Any, param_dtype: torch.dtype | None, reduce_dtype: torch.dtype | None
) -> None:
    """Share the weights of a model, in place, unit by unit."""
    from torch.distributed.fsdp import (
        FSDPModule,
        MixedPrecisionPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    def make_unit(part: nn.Module, dtype: torch.dtype | None = None) -> None:
        # Autocast chooses each operation's type; what flows between blocks keeps its own.
        policy = MixedPrecisionPolicy(
            dtype,
            reduce_dtype or (None if dtype is None else torch.float32),
            cast_forward_inputs=False,
        )
        fully_shard(part, mesh=mesh, mp_policy=policy)
        for name in forward_methods(part):
            register_fsdp_forward_method(part, name)

    for backbone in find_backbones(module):
        blocks = find_blocks(backbone)
        prepare_blocks(module, backbone, blocks)
        for block in blocks:
            make_unit(block, param_dtype)
    for part in list(module.modules()):
        if part is not module and forward_methods(part) and not isinstance(part, FSDPModule):
            make_unit(part)
    make_unit(module)
    if dist.get_backend() == 'gloo':
        for part in module.modules():
            if isinstance(part, FSDPModule) and hasattr(part, 'set_force_sum_reduction_for_comms'):
                part.set_force_sum_reduction_for_comms(True)  # gloo does not average
    for part in module.modules():
        part.register_load_state_dict_pre_hook(_take_parts)
    _forget_init_weights(module)


def _take_parts(module: nn.Module, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
    """Before loading: of a whole tensor a process takes its part."""
    for name, parameter in module.named_parameters(recurse=False):
        value = state_dict.get(prefix + name)
        if isinstance(value, Tensor) and is_sharded(parameter):
            state_dict[prefix + name] = shard_like(value, parameter)


class _Done:
    """Takes the place of a method that must not be called again: there is none."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        raise AttributeError('The weights were initialized before they were sharded.')


def _forget_init_weights(module: nn.Module) -> None:
    """Let the Runner, which initializes models that have the method, leave this one alone."""
    kind = type(module)
    module.__class__ = type(kind.__name__, (kind,), {'init_weights': _Done()})
