# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Patch embeddings of RGB for images of other channels."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .locate import CheckpointError

WAYS = ('repeat', 'mean')


def inflate_kernel(
    kernel: Tensor, channels: int, inflate: str | Sequence[int | None] = 'repeat'
) -> tuple[Tensor, str]:
    """Give the kernel of a patch embedding another number of channels.

    All is scaled by the ratio of the numbers, so that an image whose channels are alike gives
    what it gave.

    Args:
        kernel: Shape (D, S, H, W).
        channels: Channels C wanted.
        inflate: 'repeat' takes those of RGB in turn, one channel gets their sum, as timm does it;
            from other channels than RGB it changes nothing. 'mean' gives the mean to every
            channel. A list says for each channel which one of the checkpoint it starts from,
            counted from 0, or None for the mean. Defaults to 'repeat'.

    Returns:
        Shape (D, C, H, W), and what was done, in words; the kernel itself and '' where nothing.

    Raises:
        CheckpointError: If a list is not of C channels that the checkpoint has.
    """
    source = kernel.shape[1]
    mean = kernel.mean(1, keepdim=True)
    if isinstance(inflate, str):
        if source == channels or (inflate == 'repeat' and source != 3):
            return kernel, ''
        if channels == 1:
            return kernel.sum(1, keepdim=True), _words(source, 1, 'their sum')
        numbers: list[int | None] = [None] * channels
        if inflate == 'repeat':
            numbers = [number % source for number in range(channels)]
        how = 'repeated in turn' if inflate == 'repeat' else 'their mean'
    else:
        numbers = list(inflate)
        wrong = [n for n in numbers if n is not None and not 0 <= n < source]
        if len(numbers) != channels or wrong:
            raise CheckpointError(
                f'inflate={numbers} must name, for each of {channels} channels of the backbone, '
                f'one of the {source} of the checkpoint, 0 to {source - 1}, or None for their mean'
            )
        how = 'from ' + ', '.join('the mean' if n is None else str(n) for n in numbers)
    parts = [mean if number is None else kernel[:, [number]] for number in numbers]
    scaled = '' if source == channels else f' and scaled by {source}/{channels}'
    return torch.cat(parts, 1) * (source / channels), _words(source, channels, how + scaled)


def check_inflate(inflate: Any) -> None:
    """Check that ``inflate`` can give a kernel other channels.

    Raises:
        ValueError: If it is neither 'repeat', 'mean' nor a list of numbers and None.
    """
    many = isinstance(inflate, Sequence) and not isinstance(inflate, str)
    if inflate not in WAYS if not many else not all(n is None or type(n) is int for n in inflate):
        raise ValueError(
            "inflate must be 'repeat', 'mean' or a list with a channel of the checkpoint, or None "
            f'for their mean, for each channel of the backbone; got {inflate!r}'
        )


def _words(source: int, channels: int, how: str) -> str:
    return f'from {"RGB" if source == 3 else source} to {channels} channels, {how}'
