# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights of a backbone for a network of another library."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .convert import express
from .locate import CheckpointError
from .names import Format
from .parts import part_of

MASK_TOKEN = 'the mask token, which only pre-training needs'


@dataclass
class Target:
    """A network of a library.

    Args:
        title: Its class, for messages.
        format: Names of its parameters.
        options: Arguments it is built with, or the contents of ``config.json``.
        usage: How to build and fill it, one line; ``FILE`` stands for the file or folder.
        suffixes: Of files that the library reads; empty for a folder of Hugging Face's.
        lacks: Parts of the ViT that it does not have; weights with them cannot be exported.
        left_out: Our names of parameters that it does without, and what they are.
        added: Our names of parameters that it always has, with values of no effect.
        positions: How many entries of zero it has in the position embedding between [CLS] and
            the patches.
        remark: Where it computes something else.
    """

    title: str
    format: Format
    options: dict[str, Any]
    usage: str
    suffixes: tuple[str, ...] = ()
    lacks: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    added: dict[str, Tensor] = field(default_factory=dict)
    positions: int = 0
    remark: str = ''

    def notes(self) -> list[str]:
        """What weights lose and gain, in words; what is empty is nothing."""
        notes = [f'left out: {what}' for what in self.left_out.values()]
        for name, tensor in self.added.items():
            part = part_of(name)
            if part and tensor.numel():
                value = 'ones' if tensor.all() else 'zeros'
                notes.append(f'added, without effect: {part.title} of {value}')
        return [*dict.fromkeys(notes), *([self.remark] if self.remark else [])]


@dataclass(frozen=True)
class Export:
    """Weights for a network of another library.

    Args:
        target: The network.
        weights: Its names and shapes, complete.
    """

    target: Target
    weights: dict[str, Tensor]


def express_vit(state_dict: Mapping[str, Tensor], target: Target, library: str) -> Export:
    """Give the weights of a ViT the names and form of a library's network.

    Values stay as they are, bit by bit.

    Args:
        state_dict: Weights under our names.
        target: The network.
        library: Whose it is, for messages.

    Raises:
        CheckpointError: If the network lacks a part.
    """
    if target.lacks:
        raise CheckpointError(
            f'{target.title} cannot hold these weights, which have {", ".join(target.lacks)}. '
            f'Export them for another library than {library}.'
        )
    state = {n: t for n, t in state_dict.items() if n not in target.left_out}
    if target.positions and 'pos_embed' in state:
        before, patches = state['pos_embed'].tensor_split([int('cls_token' in state)], dim=1)
        zeros = patches.new_zeros(1, target.positions, patches.shape[2])
        state['pos_embed'] = torch.cat([before, zeros, patches], dim=1)
    dtype = next(iter(state.values())).dtype
    state |= {name: tensor.to(dtype) for name, tensor in target.added.items()}
    return Export(target, express(state, target.format))


def call(function: str, *args: Any, **options: Any) -> str:
    """A call, as one would write it."""

    def written(value: Any) -> str:
        if isinstance(value, partial):
            return f'partial(nn.LayerNorm, eps={value.keywords["eps"]})'
        return repr(value)

    words = [repr(value) for value in args]
    words += [f'{name}={written(value)}' for name, value in options.items()]
    return f'{function}({", ".join(words)})'
