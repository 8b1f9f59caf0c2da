# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A ViT's pass over images of several sizes at once."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from ibot_mm.functional.token_layout import TokenLayout

from .attention import attend_by_size


def forward_sizes(
    backbone: Any,
    images: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    patches: Sequence[Tensor | None],
) -> tuple[Tensor, ...]:
    """Compute what a ViT's own passes over each size give, with the tokens of all in one tensor.

    Norms, linear layers and feed-forward networks run once for all tokens, attention for each size.
    Embedding and last layer run for each size: both depend on it, and the last layer is needed for
    a few tokens only, see :meth:`EncoderLayer.forward_rows`.

    Args:
        backbone: :class:`MaskedVisionTransformer`.
        images: Of each size (B, C, H, W).
        masks: Of each size (B, H/p, W/p), or None.
        patches: Of each size (M,), or None for all tokens.

    Returns:
        Of each size (B + M, D), or (B, 1 + N, D) for all tokens.

    Raises:
        TypeError: If layers of the backbone need to know one size.
    """
    if not backbone.packs_sizes:
        raise TypeError(f'{type(backbone).__name__} takes images of one size at a time.')
    batches, grids, angles = zip(*(backbone._embed(*of_size) for of_size in zip(images, masks)))
    tokens, layout = TokenLayout.pack(batches)
    attention = partial(attend_by_size, angles=angles)
    last = backbone.num_layers - 1
    for index in range(last):
        tokens = backbone._run(backbone.layers[index], tokens, attention, layout)
    of_sizes = zip(layout.split(tokens), grids, angles, patches)
    return tuple(backbone._run_layers(*of_size, first=last)[-1] for of_size in of_sizes)
