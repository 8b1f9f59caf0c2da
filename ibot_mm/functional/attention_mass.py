# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The patches that hold most of an attention."""

import torch
from torch import Tensor


def most_attended(attention: Tensor, mass: float = 0.6) -> Tensor:
    """Find the most attended patches that together hold a share of the attention.

    As in the published figures the patch that crosses the line is kept, so that the kept mass is
    at least ``mass``.

    Args:
        attention: Of patches, without [CLS], shape (..., N); its sum need not be 1.
        mass: Share in (0, 1]; at 1 patches without attention are left out. Defaults to 0.6, of the
            paper's figures.

    Returns:
        True at kept patches, shape (..., N).

    Raises:
        ValueError: If ``mass`` is out of range.
    """
    if not 0 < mass <= 1:
        raise ValueError(f'mass must be in (0, 1], the share of the attention, got {mass}')
    ascending, order = attention.sort(dim=-1, stable=True)
    shares = ascending / ascending.sum(dim=-1, keepdim=True)
    kept = shares.cumsum(dim=-1) > 1 - mass
    return torch.zeros_like(kept).scatter(-1, order, kept)


def strongest_head(attention: Tensor, mass: float = 0.6) -> Tensor:
    """Find, for each patch, the head that pays it the most attention.

    Args:
        attention: Shape (..., heads, N).
        mass: See :func:`most_attended`: a head competes for the patches that it keeps.
            Defaults to 0.6.

    Returns:
        Number of the head, -1 where no head keeps the patch, int64 (..., N).
    """
    kept = most_attended(attention, mass)
    strongest = attention.masked_fill(~kept, -torch.inf).argmax(dim=-2)
    return torch.where(kept.any(dim=-2), strongest, -1)
