# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The layer of a backbone that embeds patches."""

import torch
from torch import Tensor, nn

from ibot_mm.functional.shards import shard_like


def find_patch_projection(backbone: nn.Module) -> nn.Conv2d:
    """Find the convolution that embeds patches, which do not overlap.

    Raises:
        TypeError: If the backbone does it in another way.
    """
    embedding = getattr(backbone, 'patch_embed', None)
    found = [getattr(embedding, name, None) for name in ('projection', 'proj')]
    for layer in found:
        if type(layer) is nn.Conv2d and layer.stride == layer.kernel_size:
            return layer
    raise TypeError(
        f'{type(backbone).__name__} does not embed patches by one convolution without '
        'overlap: remove default_hooks.whitening.'
    )


@torch.no_grad()
def set_patch_projection(backbone: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Set its parameters; where processes share the weights, each sets its part.

    Args:
        backbone: One for which :func:`find_patch_projection` finds the layer.
        weight: Shape (D, C * p * p), of flat patches.
        bias: Shape (D,); not used where the layer does not have one.

    Raises:
        TypeError: If the backbone embeds patches in another way.
    """
    layer = find_patch_projection(backbone)
    layer.weight.copy_(shard_like(weight.view(layer.weight.shape), layer.weight))
    if layer.bias is not None:
        layer.bias.copy_(shard_like(bias, layer.bias))
