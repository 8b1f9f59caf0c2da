# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Sinkhorn-Knopp centering: every prototype gets the same share of the batch."""

from collections.abc import Callable

import torch
from torch import Tensor

Reduce = Callable[[Tensor, str], None]


def sinkhorn_center(
    logits: Tensor, temperature: float, num_iterations: int = 3, reduce: Reduce | None = None
) -> Tensor:
    """Compute the center with which the targets of a batch use all prototypes alike.

    Sinkhorn-Knopp scales the matrix of ``exp(logits / temperature)`` in turn to equal sums of all
    prototypes and of all samples (Cuturi, 2013; for targets Caron et al., arXiv 2006.09882). Its
    last scaling is that of the samples, so the result is a softmax of the logits with one offset a
    prototype: a center. The scalings are computed as logarithms and do not overflow.

    Args:
        logits: Teacher logits, shape (..., K).
        temperature: Sharpening temperature.
        num_iterations: Defaults to 3.
        reduce: Combines a tensor in place over all processes, by 'max' or 'sum'. Defaults to
            None, one process.

    Returns:
        Center (K,), float32 at least: the targets are ``softmax((logits - center) / temperature)``.
        Zeros if the batch is empty.
    """
    precise = torch.promote_types(logits.dtype, torch.float32)
    scaled = logits.to(precise).flatten(0, -2) / temperature  # (N, K)
    per_sample = scaled.new_zeros(len(scaled), 1)
    per_prototype = scaled.new_zeros(scaled.shape[1])
    for _ in range(num_iterations):
        per_prototype = _log_sum_exp(scaled - per_sample, reduce)
        per_sample = (scaled - per_prototype).logsumexp(dim=1, keepdim=True)
    per_prototype = torch.where(per_prototype.isneginf(), 0.0, per_prototype)
    return per_prototype * temperature


def _log_sum_exp(values: Tensor, reduce: Reduce | None) -> Tensor:
    """Logarithm of the sum of exponentials over the samples of all processes, (N, K) -> (K,)."""
    lowest = values.new_full((1, values.shape[1]), torch.finfo(values.dtype).min)
    largest = torch.cat([values, lowest]).amax(dim=0)  # there may be no sample here
    if reduce is not None:
        reduce(largest, 'max')
    total = (values - largest).exp().sum(dim=0)
    if reduce is not None:
        reduce(total, 'sum')
    return total.log() + largest
