# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Tokens of images of several sizes in one tensor."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class TokenLayout(NamedTuple):
    """How batches of different sizes, (B, T, D) each, lie in one tensor (R, D), R the sum of B * T.

    One batch follows the other, within it one image the other. The tensor itself stays outside of
    this class: what waits for gradients of a layer's inputs, as shards do, looks for plain tensors.

    Attributes:
        shapes: (B, T) of each batch.
    """

    shapes: tuple[tuple[int, int], ...]

    @classmethod
    def pack(cls, batches: Sequence[Tensor]) -> tuple[Tensor, 'TokenLayout']:
        """Put batches (B, T, D) into one tensor (R, D), and say how they lie there."""
        shapes = tuple((batch.shape[0], batch.shape[1]) for batch in batches)
        return torch.cat([batch.flatten(0, 1) for batch in batches]), cls(shapes)

    @property
    def num_images(self) -> int:
        """All images, the sum of B."""
        return sum(number for number, _ in self.shapes)

    def split(self, tokens: Tensor) -> list[Tensor]:
        """Return the batches (B, T, ...) as views of one tensor (R, ...)."""
        parts = tokens.split([number * length for number, length in self.shapes])
        return [part.unflatten(0, shape) for part, shape in zip(parts, self.shapes)]

    def repeat(self, values: Tensor) -> Tensor:
        """Repeat a value for each image, (sum of B,), for each of its tokens, (R,)."""
        parts = values.split([number for number, _ in self.shapes])
        lengths = [length for _, length in self.shapes]
        return torch.cat([p.repeat_interleave(length) for p, length in zip(parts, lengths)])

    def select(self, wanted: Tensor, device: torch.device) -> tuple[Tensor, 'TokenLayout']:
        """Find the tokens of some images.

        Only the numbers of these images go to the device, and nothing waits for it.

        Args:
            wanted: Whether each image is wanted, bool (sum of B,), on the CPU.
            device: Of the tokens.

        Returns:
            The places of their tokens among the R, int64, and how these tokens then lie.
        """
        places, shapes, start = [], [], 0
        for flags, (number, length) in zip(wanted.split([b for b, _ in self.shapes]), self.shapes):
            images = flags.nonzero()  # (K, 1)
            of_first = torch.arange(start, start + length, device=device)
            places.append(images.to(device, non_blocking=True) * length + of_first)
            shapes.append((len(images), length))
            start += number * length
        return torch.cat([part.flatten() for part in places]), TokenLayout(tuple(shapes))
