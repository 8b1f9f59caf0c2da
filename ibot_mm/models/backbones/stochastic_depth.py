# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Residual branches with stochastic depth (drop path) that skip what they drop."""

from collections.abc import Callable

import torch
from mmcv.cnn.bricks.drop import DropPath
from torch import Tensor, nn

from ibot_mm.functional.token_layout import TokenLayout


def add_branch(
    tokens: Tensor,
    branch: Callable[..., Tensor],
    drop_path: nn.Module,
    layout: TokenLayout | None = None,
) -> Tensor:
    """Add a branch to tokens, computing it only for the samples that keep it.

    The same function of the same random numbers as mmcv's ``DropPath`` after the branch, which
    computes all samples and multiplies some by 0.

    Args:
        tokens: Shape (B, ...), or with ``layout`` (R, D).
        branch: Treats each sample on its own, for any number of samples; keeps the shape. With
            ``layout`` it is also given that of its tokens.
        drop_path: The ``DropPath`` whose probability and mode hold; any other module is none.
        layout: Of tokens of images of several sizes, whose samples are the images.
            Defaults to None, samples along the first axis.
    """
    rate = _rate(drop_path)
    given: tuple[TokenLayout, ...] = () if layout is None else (layout,)
    if rate == 0:
        return tokens + branch(tokens, *given)
    if torch.compiler.is_compiling():  # a graph cannot depend on how many samples are kept
        scale = sample_scale(tokens, drop_path, layout)
        return tokens + branch(tokens, *given) * scale.view(-1, *[1] * (tokens.ndim - 1))
    # Drawn on the CPU, so that their number is known without waiting for a GPU.
    kept = torch.rand(_num_samples(tokens, layout), dtype=tokens.dtype) >= rate
    if kept.all():
        return tokens.add(branch(tokens, *given), alpha=1 / (1 - rate))
    if layout is None:
        places = kept.nonzero().flatten().to(tokens.device, non_blocking=True)
    else:
        places, layout = layout.select(kept, tokens.device)
        given = (layout,)
    output = branch(tokens.index_select(0, places), *given).to(tokens.dtype)
    return tokens.index_add(0, places, output, alpha=1 / (1 - rate))


def sample_scale(tokens: Tensor, drop_path: nn.Module, layout: TokenLayout | None = None) -> Tensor:
    """Compute the factor of each sample's branch, 0 where it is dropped.

    Args:
        tokens: Shape (B, ...), or with ``layout`` (R, D).
        drop_path: As of :func:`add_branch`.
        layout: As of :func:`add_branch`. Defaults to None.

    Returns:
        Shape (B,), or with ``layout`` for each token that of its image, (R,).
    """
    rate = _rate(drop_path)
    if rate == 0:
        return tokens.new_ones(len(tokens))
    number = _num_samples(tokens, layout)
    kept = torch.rand(number, dtype=tokens.dtype, device=tokens.device) >= rate
    scale = kept.to(tokens.dtype) / (1 - rate)
    return scale if layout is None else layout.repeat(scale)


def _num_samples(tokens: Tensor, layout: TokenLayout | None) -> int:
    return len(tokens) if layout is None else layout.num_images


def _rate(drop_path: nn.Module) -> float:
    return drop_path.drop_prob if isinstance(drop_path, DropPath) and drop_path.training else 0.0
