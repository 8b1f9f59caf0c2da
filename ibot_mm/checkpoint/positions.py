# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Fitting what is learned for images of one size, patch or kind to others."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .locate import CheckpointError

TOKENS_BEFORE_PATCHES = ('cls_token', 'dist_token', 'register_tokens')  # in this order


def source_layout(
    length: int, numbers_of_extra: Sequence[int], target_grid: tuple[int, int]
) -> tuple[int, tuple[int, int]]:
    """Say how a position embedding is made up, of which a checkpoint keeps the length only.

    The grid is taken to be the target's, if it can be, and else to be square, as those of nearly
    all pre-training are.

    Args:
        length: Number of entries.
        numbers_of_extra: How many of them may belong to tokens before the patches, most likely
            ones first.
        target_grid: Patches (h, w) of the network to be filled.

    Returns:
        Number of entries before the patches', and grid (H, W) of the patches.

    Raises:
        CheckpointError: If there is no such grid.
    """
    for extra in numbers_of_extra:
        if length - extra == math.prod(target_grid):
            return extra, target_grid
    for extra in numbers_of_extra:
        side = math.isqrt(max(length - extra, 0))
        if side and side**2 == length - extra:
            return extra, (side, side)
    raise CheckpointError(
        f'the position embedding has {length} entries, not a square grid, and not that of '
        f'the backbone, {target_grid[0]} x {target_grid[1]} patches: set img_size to the size of '
        'the images of the pre-training'
    )


def resize_patches(
    patches: Tensor, source_grid: tuple[int, int], target_grid: tuple[int, int]
) -> Tensor:
    """Resize bicubically without antialiasing, as is usual when a checkpoint is loaded.

    mmpretrain, DeiT, MAE and BEiT do the same. timm antialiases, with another bicubic kernel. iBOT
    and DINO resize at run time instead, and shift the sampling points
    (:func:`ibot_mm.functional.position_embedding.resize_position_embedding`); that is what
    :class:`ibot_mm.MaskedVisionTransformer` does with images of another size than ``img_size``.

    Args:
        patches: Entries of the patches, shape (1, H * W, D).
        source_grid: (H, W).
        target_grid: (h, w).

    Returns:
        Shape (1, h * w, D) in float32; the embedding itself where the grids are equal.
    """
    if source_grid == target_grid:
        return patches
    maps = patches.float().unflatten(1, source_grid).permute(0, 3, 1, 2)  # (1, D, H, W)
    maps = F.interpolate(maps, size=target_grid, mode='bicubic')
    return maps.flatten(2).transpose(1, 2)


def fit_position_embedding(
    state: dict[str, Tensor],
    target: Mapping[str, Tensor],
    with_entries: Sequence[Sequence[str]],
    target_grid: tuple[int, int],
    guess: tuple[int, int] | None = None,
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Make ``state['pos_embed']`` one of the target's length.

    Entries of [CLS] and registers are only ever added to those tokens. Where the target has no
    entry for them they move into the tokens; where the checkpoint has none they are zero. Neither
    changes the network. Where the target lacks the token itself, they are dropped.

    Args:
        state: Weights under our names; changed in place.
        target: The network to be filled, under our names.
        with_entries: Tokens before the patches that may have entries in ``state``, see
            :class:`Format`.
        target_grid: Patches (h, w) of the target.
        guess: What the grid of the embedding is thought to be. Defaults to None, the target's.

    Returns:
        Grids before and after, where the embedding was resized.

    Raises:
        CheckpointError: If the grid of the embedding cannot be told.
    """
    embedding = state['pos_embed']
    lengths = {name: state[name].shape[1] for name in TOKENS_BEFORE_PATCHES if name in state}
    numbers = [sum(lengths.get(name, 0) for name in names) for names in with_entries]
    if embedding.ndim == 4:  # (1, H, W, D)
        grid = (embedding.shape[1], embedding.shape[2])
        extra, embedding = 0, embedding.flatten(1, 2)
    else:
        extra, grid = source_layout(embedding.shape[1], numbers, guess or target_grid)
    entries, patches = embedding.split([extra, embedding.shape[1] - extra], dim=1)
    places = target['pos_embed'].shape[1] - math.prod(target_grid)  # before the patches'
    kept = []
    for name, length in lengths.items():
        entry, entries = entries.tensor_split([length], dim=1)
        if name not in target:
            continue
        if places >= length:
            places -= length
            kept.append(entry if entry.shape[1] else torch.zeros_like(state[name]))
        elif entry.shape[1]:
            state[name] = state[name] + entry
    state['pos_embed'] = torch.cat([*kept, resize_patches(patches, grid, target_grid)], dim=1)
    return None if grid == target_grid else (grid, target_grid)


def resize_window_table(table: Tensor, length: int) -> Tensor:
    """Resize Swin's relative position bias to other windows bicubically, as mmdet and mmseg do.

    Args:
        table: Entry of each distance between patches of a square window, (S ** 2, heads).
        length: Number of entries wanted, a square too.

    Returns:
        Shape (length, heads); the table itself where it has that length, or is of a window that
        is not square.
    """
    source, target = math.isqrt(len(table)), math.isqrt(length)
    if source == target or source**2 != len(table) or target**2 != length:
        return table
    maps = table.T.unflatten(1, (source, source))[None]  # (1, heads, side, side)
    resized = F.interpolate(maps.float(), size=(target, target), mode='bicubic')
    return resized[0].flatten(1).T.contiguous().to(table.dtype)


def resize_relative_table(table: Tensor, target_grid: tuple[int, int]) -> Tensor:
    """Resize BEiT's relative position bias bicubically; its last three entries are [CLS]'s.

    Args:
        table: Entry of each distance between patches of a square grid of side S, and three more,
            shape ((2 S - 1) ** 2 + 3, heads).
        target_grid: (h, w).

    Returns:
        Shape ((2 h - 1) * (2 w - 1) + 3, heads).

    Raises:
        CheckpointError: If the table is of no square grid.
    """
    patches, extra = table[:-3], table[-3:]
    side = math.isqrt(len(patches))
    if side**2 != len(patches):
        raise CheckpointError(
            f'the relative position bias has {len(table)} entries, which are of no square grid: '
            'set img_size to the size of the images of the pre-training'
        )
    maps = patches.float().T.unflatten(1, (side, side))[None]  # (1, heads, 2 S - 1, 2 S - 1)
    size = [2 * length - 1 for length in target_grid]
    maps = F.interpolate(maps, size=size, mode='bicubic')
    return torch.cat([maps.flatten(2)[0].T, extra.float()])


def resample_kernel(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample the kernel of a patch embedding, as FlexiViT and timm do it.

    Not the kernel is resized but its pseudo-inverse is taken: the new kernel gives to an image
    that is enlarged (bicubic, antialiased) what the old one gives to the image itself, as nearly
    as can be; exactly, where patches grow. Paper: FlexiViT (arXiv 2212.08013), section 3.4.

    Args:
        kernel: Shape (D, C, H, W).
        size: (h, w).

    Returns:
        Shape (D, C, h, w); the kernel itself where it has that size.
    """
    old = tuple(kernel.shape[2:])
    if old == size:
        return kernel
    basis = torch.eye(math.prod(old)).unflatten(1, old)[:, None]  # each pixel of a patch alone
    resize = F.interpolate(basis, size=size, mode='bicubic', antialias=True).flatten(1)
    inverse = torch.linalg.pinv(resize.double())  # (h * w, H * W)
    resampled = kernel.double().flatten(2) @ inverse.T
    return resampled.unflatten(2, size).to(kernel.dtype)
