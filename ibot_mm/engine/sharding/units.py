# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Which parts of a network are gathered together, and how each of them is prepared."""

from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ibot_mm.private_api import undo_compile

CONTAINERS = ('layers', 'blocks')  # what backbones call the sequence of their blocks


def find_backbones(model: nn.Module) -> list[nn.Module]:
    """Find all modules called ``backbone``: those of student, teacher and frozen networks."""
    named = model.named_modules()
    return [module for name, module in named if name.rpartition('.')[2] == 'backbone']


def find_blocks(backbone: nn.Module) -> list[nn.Module]:
    """Find the blocks of a backbone, in its order.

    Args:
        backbone: Has them in an ``nn.ModuleList`` or ``nn.Sequential`` called ``layers`` or
            ``blocks``, as the ViTs of mmpretrain and timm do, or in several, as Swin does.

    Raises:
        ValueError: If there is none.
    """
    blocks = list(_blocks_below(backbone))
    if not blocks:
        raise ValueError(
            f'{type(backbone).__name__} does not have its blocks in layers or blocks, so that they '
            'cannot be sharded one by one: leave out model_wrapper_cfg.'
        )
    return blocks


def _blocks_below(module: nn.Module) -> Iterator[nn.Module]:
    for name, child in module.named_children():
        if name in CONTAINERS and isinstance(child, nn.ModuleList | nn.Sequential):
            yield from child
        else:
            yield from _blocks_below(child)


def forward_methods(module: nn.Module) -> tuple[str, ...]:
    """Name the methods, beside ``forward``, by which others run a module."""
    return tuple(getattr(module, 'forward_methods', ()))


def prepare_blocks(model: nn.Module, backbone: nn.Module, blocks: list[nn.Module]) -> None:
    """Take recomputation and compiling over from a backbone, for each block by itself.

    Of a block recomputation is innermost, then comes compiling; shards follow. So a graph holds
    no communication, and what is recomputed finds the weights gathered. Layer norms compute in the
    type of their input, in which autocast leaves it, if their weights are gathered in another.

    Args:
        model: May have ``compile_backbone``.
        backbone: May have ``with_cp``.
        blocks: Its blocks.

    Raises:
        ValueError: If the backbone is compiled in a way of its own.
    """
    recomputes = getattr(backbone, 'with_cp', False) is True
    compiles = getattr(model, 'compile_backbone', False)
    if compiles and type(backbone).compile is not nn.Module.compile:
        raise ValueError(
            f'{type(backbone).__name__} cannot be compiled block by block, as shards need it: set '
            'model.compile_backbone=False.'
        )
    if recomputes:
        backbone.with_cp = False  # type: ignore[assignment]
    if compiles:
        undo_compile(backbone)
    for block in blocks:
        for module in block.modules():
            if type(module) is nn.LayerNorm:
                module.forward = partial(_normalize, module)  # type: ignore[method-assign]
        for name in ('forward', *forward_methods(block)):
            method: Callable[..., Any] = getattr(block, name)
            method = _recomputed(block, method) if recomputes else method
            method = torch.compile(method) if compiles else method
            if recomputes or compiles:
                setattr(block, name, method)


def _normalize(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    weight, bias = (None if part is None else part.to(x.dtype) for part in (norm.weight, norm.bias))
    return F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)


def _recomputed(block: nn.Module, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        if block.training and torch.is_grad_enabled():
            return checkpoint(method, *args, use_reentrant=False, **kwargs)
        return method(*args, **kwargs)

    return run
