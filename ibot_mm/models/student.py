# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The student's pass over crops, for the tokens that the losses read."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ibot_mm.functional.token_selection import select_tokens


class Crops(NamedTuple):
    """Crops of one size, and what is wanted of them.

    Attributes:
        images: Shape (B, C, H, W).
        patches: Places of the patches that are wanted beside each [CLS], shape (M,).
        masks: True where a patch is hidden, shape (B, H/p, W/p). Defaults to None, nothing hidden.
        whole: Whether all tokens are wanted. Defaults to False.
    """

    images: Tensor
    patches: Tensor
    masks: Tensor | None = None
    whole: bool = False


def student_tokens(backbone: Any, crops: Sequence[Crops], pack: bool = False) -> list[Tensor]:
    """Run the student's backbone on crops of several sizes.

    Where not all tokens are wanted, the end of a backbone that can runs only on some.

    Args:
        backbone: The student's.
        crops: Of each size.
        pack: Whether to run on all sizes in one pass, which the backbone must be able to.
            Defaults to False, one pass for each size.

    Returns:
        Of each size [CLS] of each image, then ``patches``, (B + M, D); all tokens (B, 1 + N, D)
        where they are wanted.
    """
    wanted = [None if of_size.whole else of_size.patches for of_size in crops]
    if pack and len(crops) > 1:
        images, masks = ([getattr(of_size, n) for of_size in crops] for n in ('images', 'masks'))
        return list(backbone(images, masks, wanted))
    if getattr(backbone, 'selects_tokens', False):
        return [backbone(c.images, c.masks, patches)[-1] for c, patches in zip(crops, wanted)]
    tokens = [backbone(of_size.images, of_size.masks)[-1] for of_size in crops]
    return [t if p is None else select_tokens(t, p) for t, p in zip(tokens, wanted)]


def project_tokens(neck: Any, tokens: Tensor, patches: Tensor) -> Tensor:
    """Project [CLS] of each image, then ``patches``.

    With a batch norm in the neck, statistics are over all tokens, so all are projected.

    Args:
        neck: The student's, see :class:`IBOTNeck`.
        tokens: As :func:`student_tokens` returns them.
        patches: As in :class:`Crops`.

    Returns:
        Shape (B + M, C).
    """
    if neck.norm_over_tokens:
        return select_tokens(neck.project(tokens, 1), patches)
    selected = select_tokens(tokens, patches) if tokens.ndim == 3 else tokens
    return neck.project(selected, len(selected) - len(patches))
