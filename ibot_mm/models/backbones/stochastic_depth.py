# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Residual branches with stochastic depth (drop path) that skip what they drop."""

from collections.abc import Callable

import torch
from mmcv.cnn.bricks.drop import DropPath
from torch import Tensor, nn


def add_branch(tokens: Tensor, branch: Callable[[Tensor], Tensor], drop_path: nn.Module) -> Tensor:
    """Add a branch to tokens, computing it only for the samples that keep it.

    The same function of the same random numbers as mmcv's ``DropPath`` after the branch, which
    computes all samples and multiplies some by 0.

    Args:
        tokens: Shape (B, ...).
        branch: Treats each sample on its own, for any number of samples; keeps the shape.
        drop_path: The ``DropPath`` whose probability and mode hold; any other module is none.
    """
    rate = _rate(drop_path)
    if rate == 0:
        return tokens + branch(tokens)
    if torch.compiler.is_compiling():  # a graph cannot depend on how many samples are kept
        scale = sample_scale(tokens, drop_path)
        return tokens + branch(tokens) * scale.view(-1, *[1] * (tokens.ndim - 1))
    # Drawn on the CPU, so that their number is known without waiting for a GPU.
    kept = (torch.rand(len(tokens), dtype=tokens.dtype) >= rate).nonzero().flatten()
    if len(kept) == len(tokens):
        return tokens.add(branch(tokens), alpha=1 / (1 - rate))
    kept = kept.to(tokens.device, non_blocking=True)
    output = branch(tokens.index_select(0, kept)).to(tokens.dtype)
    return tokens.index_add(0, kept, output, alpha=1 / (1 - rate))


def sample_scale(tokens: Tensor, drop_path: nn.Module) -> Tensor:
    """Compute the factor of each sample's branch, 0 where it is dropped, shape (B,)."""
    rate = _rate(drop_path)
    if rate == 0:
        return tokens.new_ones(len(tokens))
    kept = torch.rand(len(tokens), dtype=tokens.dtype, device=tokens.device) >= rate
    return kept.to(tokens.dtype) / (1 - rate)


def _rate(drop_path: nn.Module) -> float:
    return drop_path.drop_prob if isinstance(drop_path, DropPath) and drop_path.training else 0.0
