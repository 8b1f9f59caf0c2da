# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What a training step holds, computes and sends: counted without values, not measured."""

import copy
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from unittest.mock import patch

import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import cost
from ibot_mm.engine.sharding.units import find_backbones, find_blocks, forward_methods
from ibot_mm.registry import MODELS

FLOAT, HALF = 4, 2  # bytes
MACHINE = 8  # GPUs of one; HSDP shares a copy within it


@dataclass
class Unit:
    """Parameters that are gathered together."""

    parameters: list[nn.Parameter]
    gathers: int  # in a step
    width: int = FLOAT  # bytes of an element when it is gathered

    def elements(self, num_shards: int, trained: bool = False) -> int:
        """Count elements as ``fully_shard`` sends them: rows are filled up to equal parts."""
        return sum(
            math.ceil(len(p) / num_shards) * num_shards * (p.numel() // len(p))
            for p in self.parameters
            if p.requires_grad or not trained
        )


class Training:
    """What a step of a config holds, computes and sends.

    Args:
        cfg: A pre-training config.
    """

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.batch_size = cfg.train_dataloader.batch_size

    @cached_property
    def model(self) -> nn.Module:
        """The network, without values."""
        with torch.device('meta'):
            return MODELS.build(self.cfg.model)

    def count(self, trained: bool = False) -> int:
        """Count parameters of student and teacher, or those that are trained."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad or not trained)

    @property
    def checkpoint_bytes(self) -> int:
        """Weights of student and teacher, and two moments of what is trained."""
        return FLOAT * (self.count() + 2 * self.count(trained=True))

    @cached_property
    def units(self) -> list[Unit]:
        """The model as ``ShardedDataParallel`` splits it, with how often a step gathers each.

        The student runs on global and on local crops, the teacher on global ones. A neck projects
        after each run and computes logits once, and is fetched ahead once more.
        """
        width = HALF if (self.cfg.get('model_wrapper_cfg') or {}).get('param_dtype') else FLOAT
        runs = 1 + bool(self.cfg.train_dataloader.dataset.pipeline.crops.num_local_crops)
        found: list[Unit] = []
        taken: set[int] = set()

        def add(part: nn.Module, gathers: int, width: int) -> None:
            found.append(Unit(list(part.parameters()), gathers, width))
            taken.update(map(id, part.parameters()))

        for backbone in find_backbones(self.model):
            for block in find_blocks(backbone):
                add(block, 2 * runs if _is_trained(backbone) else 1, width)
        for part in self.model.modules():
            if forward_methods(part) and taken.isdisjoint(map(id, part.parameters())):
                add(part, 2 * (runs + 1) + 1 if _is_trained(part) else 2, FLOAT)
        rest = [p for p in self.model.parameters() if id(p) not in taken]
        return [*found, Unit(rest, 1)]

    def state_bytes(self, num_shards: int = 1) -> float:
        """Parameters, gradients and moments of a GPU; the largest part, where shares differ."""
        weights, trained = (
            sum(unit.elements(num_shards, trained) for unit in self.units)
            for trained in (False, True)
        )
        return FLOAT * (weights + 3 * trained) / num_shards

    def memory(self, wrapper: str, gpus: int) -> float:
        """State of a GPU, and beside it: DDP's buckets, or what is gathered at a time.

        That is the last unit of all, two others (one runs, the next is fetched) and a gradient.
        """
        if wrapper == 'DDP':
            return self.state_bytes() + FLOAT * self.count(trained=True)
        shards = gpus if wrapper == 'FSDP' else min(gpus, MACHINE)
        *units, rest = self.units
        largest = max(units, key=lambda unit: unit.width * unit.elements(shards))
        gathered = FLOAT * rest.elements(shards) + 2 * largest.width * largest.elements(shards)
        return self.state_bytes(shards) + gathered + FLOAT * largest.elements(shards)

    def sent(self, wrapper: str, gpus: int) -> dict[str, float]:
        """Bytes that a GPU sends in a step by rings, within its machine and to others."""
        if wrapper == 'DDP':
            whole = 2 * _ring(gpus) * FLOAT * self.count(trained=True)
            return dict(links=whole * (gpus <= MACHINE), network=whole * (gpus > MACHINE))
        shards = gpus if wrapper == 'FSDP' else min(gpus, MACHINE)
        gathered = sum(u.gathers * u.width * u.elements(shards) for u in self.units)
        gradients = FLOAT * sum(u.elements(shards, trained=True) for u in self.units)
        within = _ring(shards) * (gathered + gradients)
        between = 2 * _ring(gpus // shards) * gradients / shards
        if shards > MACHINE:
            return dict(links=0.0, network=within)
        return dict(links=within, network=between)

    @cached_property
    def operations(self) -> float:
        """Those of matrix products, an image."""
        return self._by_depth(lambda cfg: cost.step_of(cfg).ours())

    def activation_bytes(self, recomputed: bool, half: bool = True) -> float:
        """Most that a step makes at a time: activations and what comes and goes, no gradients."""

        def most(cfg: Config) -> float:
            cfg.model.backbone.with_cp = recomputed
            with patch.object(cost, 'BATCH_SIZE', self.batch_size):
                return peak_bytes(cost.step_of(cfg), half)

        return self._by_depth(most)

    def _by_depth(self, measure: Callable[[Config], float]) -> float:
        """Measure with two and three layers; each further one adds the same."""
        settings = self.model.backbone.arch_settings
        values = []
        for depth in (2, 3):
            cfg = copy.deepcopy(self.cfg)
            cfg.model.backbone.arch = dict(settings, num_layers=depth)
            values.append(measure(cfg))
        return values[0] + (settings['num_layers'] - 2) * (values[1] - values[0])


def _is_trained(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


def _ring(number: int) -> float:
    """Share of a message that a member of a ring sends to gather, or to reduce and scatter, it."""
    return (number - 1) / number


class LiveBytes(TorchDispatchMode):
    """Counts bytes of tensors that operations have made, as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.known: set[int] = set()
        self.live = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size


def peak_bytes(step: cost.Step, half: bool) -> float:
    """Return the most bytes that a step makes at a time, run without values."""
    with step.without_values:
        model = MODELS.build(step.model_cfg)
        for parameter in model.parameters():
            if parameter.requires_grad:  # gradients are counted with the state
                parameter.register_post_accumulate_grad_hook(lambda p: setattr(p, 'grad', None))
        mean_branch = patch('ibot_mm.models.backbones.attention.add_branch', cost.add_mean_branch)
        with LiveBytes() as live, mean_branch:
            with torch.autocast('cpu', torch.bfloat16, enabled=half):
                losses = model.loss(step.inputs)
            (losses['loss_cls'] + losses['loss_patch']).backward()
    return live.peak
