# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Features of the patches that [CLS] attends to, for part-wise linear probing (section 4.3.2)."""

from torch import Tensor


def mean_of_attended(patches: Tensor, attention: Tensor, k: int, least: bool = False) -> Tensor:
    """Average the k patches with the highest attention.

    Args:
        patches: Tokens (B, N, D).
        attention: Of [CLS] to the patches, mean over the heads, (B, N).
        k: Number of patches, 1 to N.
        least: Whether to take those with the lowest attention. Defaults to False.

    Returns:
        Shape (B, D).

    Raises:
        ValueError: If ``k`` is out of range.
    """
    if not 1 <= k <= patches.shape[1]:
        raise ValueError(f'k must be 1 to {patches.shape[1]}, the patches of an image, got {k}')
    places = (-attention if least else attention).topk(k, dim=1).indices
    return patches.gather(1, places[..., None].expand(-1, -1, patches.shape[2])).mean(dim=1)
