# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Tokens that the losses read: [CLS] of every image and the masked patches."""

import torch
from torch import Tensor


def masked_patches(masks: Tensor) -> Tensor:
    """Return the places of the masked patches among all patches, view by view.

    On a GPU this waits for the masks; where they are still on the CPU it costs nothing.

    Args:
        masks: True at masked patches, shape (B, G, H/p, W/p).

    Returns:
        Places in a tensor of shape (G * B * N,), all images of the first view first, int64 (M,).
    """
    return masks.transpose(0, 1).flatten().nonzero().flatten()


def token_rows(patches: Tensor, num_images: int, num_patches: int, num_extra: int = 1) -> Tensor:
    """Return the places, among all tokens of a batch, of each image's [CLS] and of some patches.

    Args:
        patches: Places of the patches among the B * N of the batch, shape (M,).
        num_images: B.
        num_patches: Patches N of an image.
        num_extra: Tokens E before the patches of each image, the first of them [CLS].
            Defaults to 1.

    Returns:
        Places among B * (E + N) tokens: those of the B [CLS], then those of ``patches``, shape
        (B + M,).
    """
    cls = torch.arange(num_images, device=patches.device) * (num_extra + num_patches)
    return torch.cat([cls, patches + (patches // num_patches + 1) * num_extra])


def select_tokens(tokens: Tensor, patches: Tensor) -> Tensor:
    """Select [CLS] of each image, then some patches: (B, 1 + N, D) -> (B + M, D).

    Args:
        tokens: [CLS] first, shape (B, 1 + N, D).
        patches: Places of the patches among the B * N of the batch, shape (M,).
    """
    rows = token_rows(patches, tokens.shape[0], tokens.shape[1] - 1)
    return tokens.flatten(0, 1).index_select(0, rows)
