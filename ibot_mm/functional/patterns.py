# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Which tokens belong to which prototype: the pattern layout of iBOT (paper, section 4.3)."""

import torch
from torch import Tensor


def assign_prototypes(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Give each token to the prototype of its largest logit.

    Args:
        logits: Without centering and temperature, shape (..., K).

    Returns:
        The largest logit (...) and its prototype, int64 (...).
    """
    values, prototypes = logits.max(dim=-1)
    return values, prototypes


def largest_prototypes(prototypes: Tensor, num_prototypes: int, number: int = 20) -> Tensor:
    """Return the prototypes that most tokens chose, most chosen first, the unused left out.

    Args:
        prototypes: From :func:`assign_prototypes`, any shape.
        num_prototypes: K, of all.
        number: At most so many. Defaults to 20, as published.

    Returns:
        int64 (P,).
    """
    counts = torch.bincount(prototypes.flatten(), minlength=num_prototypes)
    order = counts.argsort(descending=True, stable=True)
    return order[: min(number, int((counts > 0).sum()))]


def best_members(
    values: Tensor, prototypes: Tensor, prototype: int, number: int = 36
) -> tuple[Tensor, Tensor]:
    """Return the images in which a prototype is found most clearly, and the patch of each.

    Of each image only its best member stands for it. Published are 0 in the place of tokens of
    other prototypes, which fill up small prototypes and push out members of a negative logit;
    here only members are returned.

    Args:
        values: Largest logits, shape (B, N); of [CLS] tokens (B, 1).
        prototypes: Prototype of each token, shape (B, N).
        prototype: Which.
        number: At most so many images. Defaults to 36, as published.

    Returns:
        Images and places of the patches in them, largest logit first, int64 (M,) each.
    """
    of_images, places = values.masked_fill(prototypes != prototype, -torch.inf).max(dim=1)
    order = of_images.argsort(descending=True, stable=True)
    images = order[: min(number, int((prototypes == prototype).any(dim=1).sum()))]
    return images, places[images]
