# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What figures read of a frozen network: tokens and attention of pictures, and titles."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, Protocol

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor

from ibot_mm.functional.image_statistics import normalize

from .attention_weights import cls_attention
from .picture import Picture

BATCH_SIZE = 32
NO_BREAK = '\N{NO-BREAK SPACE}'  # titles are broken between what they say


class PictureNetwork(Protocol):
    """A frozen network, as :func:`ibot_mm.frozen_network.load_frozen_network` gives it."""

    @property
    def backbone(self) -> Any:
        """With ``last_blocks``."""

    @property
    def neck(self) -> Any:
        """The projection head, or None."""

    @property
    def name(self) -> str:
        """Of the architecture."""

    @property
    def origin(self) -> str:
        """Of the weights, for titles."""

    @property
    def prepare(self) -> Callable[[Tensor], Tensor] | None:
        """Makes uint8 BGR images the network's input."""


@dataclass(frozen=True)
class PictureTokens:
    """Tokens of a picture after the final norm.

    Args:
        picture: Cut to whole patches.
        cls: [CLS], or what stands in its place, shape (D,).
        patches: Shape (h, w, D).
    """

    picture: Picture
    cls: Tensor
    patches: Tensor


def read_tokens(
    network: PictureNetwork, pictures: Iterable[Picture], layer: int | None = None
) -> Iterator[PictureTokens]:
    """Compute the tokens of pictures, on the device of the backbone.

    Args:
        network: See :class:`PictureNetwork`.
        pictures: Of any sizes; margins that do not make a whole patch are cut off, and the log
            says so. Neighbors of one size are computed together.
        layer: Counted from 1. Defaults to None, the last.

    Yields:
        What each picture gives, in float32 on the CPU.

    Raises:
        ValueError: If the network does not have that layer, or does not take images of that size.
    """
    num_blocks = count_layers(network.backbone)
    wanted = 1 + num_blocks - check_layer(network, layer)
    for batch in fitting_batches(network, pictures):
        with torch.no_grad():
            blocks = network.backbone.last_blocks(network_input(network, batch), wanted)
        tokens = blocks[0].float().cpu()
        grid = token_grid(batch[0].size, tokens.shape[1] - 1)
        for picture, of_picture in zip(batch, tokens):
            yield PictureTokens(picture, of_picture[0], of_picture[1:].unflatten(0, grid))


def read_attention(
    network: PictureNetwork, pictures: Iterable[Picture], layer: int | None = None, token: int = 0
) -> Iterator[tuple[Picture, Tensor]]:
    """Compute the attention of [CLS] or a register, see :func:`cls_attention`.

    Args:
        network: See :class:`PictureNetwork`.
        pictures: As for :func:`read_tokens`.
        layer: Counted from 1. Defaults to None, the last.
        token: 0 for [CLS], n for the n-th register. Defaults to 0.

    Yields:
        The picture, cut to whole patches, and its attention (heads, h, w) on the CPU.

    Raises:
        ValueError: If the network is not a ViT with [CLS], or does not have that layer or register.
    """
    check_layer(network, layer)
    for batch in fitting_batches(network, pictures):
        maps = cls_attention(
            network.backbone, network_input(network, batch), layer=layer, token=token
        )
        yield from zip(batch, maps.cpu())


def fitting_batches(
    network: PictureNetwork, pictures: Iterable[Picture]
) -> Iterator[list[Picture]]:
    """Cut pictures to whole patches and put neighbors of one size together.

    Raises:
        ValueError: If the network does not take images of such a size.
    """
    stride = patch_stride(network.backbone)

    def fitting() -> Iterator[Picture]:
        told: set[tuple[int, int]] = set()
        for picture in pictures:
            cropped = picture.crop_to_grid(stride)
            if cropped.size != picture.size and picture.size not in told:
                told.add(picture.size)
                print_log(
                    f'{picture.name}: {picture.size[0]} x {picture.size[1]} pixels are cut to '
                    f'{cropped.size[0]} x {cropped.size[1]}, whole patches of {stride[0]} x '
                    f'{stride[1]}; other images of this size too',
                    'current',
                    logging.INFO,
                )
            _check_size(network, cropped)
            yield cropped

    for _, neighbors in groupby(fitting(), key=lambda picture: picture.size):
        while batch := list(islice(neighbors, BATCH_SIZE)):
            yield batch


def network_input(network: PictureNetwork, pictures: list[Picture]) -> Tensor:
    """Stack pictures of one size and normalize them, on the backbone's device."""
    device = next(network.backbone.parameters()).device
    pixels = np.ascontiguousarray(np.stack([picture.pixels for picture in pictures]))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device)  # RGB
    if network.prepare is None:
        return normalize(images.float())
    return network.prepare(images.flip(1))


def token_grid(size: tuple[int, int], number: int) -> tuple[int, int]:
    """Return rows and columns of patches in an image of some size (height, width).

    Raises:
        ValueError: If there is not such a grid.
    """
    patch = round((size[0] * size[1] / max(number, 1)) ** 0.5)
    grid = (size[0] // patch, size[1] // patch)
    if grid[0] * grid[1] != number:
        raise ValueError(
            f'{number} patches are not a grid of square patches of an image of '
            f'{size[0]} x {size[1]} pixels'
        )
    return grid


def patch_stride(backbone: Any) -> tuple[int, int]:
    """Return height and width of the patches of a network's last layer in pixels."""
    if hasattr(backbone, 'stride'):  # of a Swin
        return backbone.stride, backbone.stride
    embedding = backbone.patch_embed
    size = getattr(embedding, 'patch_size', None) or embedding.projection.kernel_size
    return int(size[0]), int(size[1])


def count_layers(backbone: Any) -> int:
    """Return the number of layers of a ViT or, over its stages, of a Swin."""
    return int(sum(backbone.depths) if hasattr(backbone, 'stages') else backbone.num_layers)


def check_layer(network: PictureNetwork, layer: int | None) -> int:
    """Return the number of a layer, counted from 1; None is the last.

    Raises:
        ValueError: If there is not such a layer.
    """
    number = count_layers(network.backbone)
    if layer is not None and not 1 <= layer <= number:
        raise ValueError(f'layer must be between 1 and {number}, those of {network.name}: {layer}')
    return layer or number


def figure_title(network: PictureNetwork, what: str, layer: int | None = None) -> str:
    """Say what a figure shows, of which weights and which layer."""
    number = count_layers(network.backbone)
    parts = [network.origin, network.name, f'layer {layer or number} of {number}']
    whole = [part.replace(' ', NO_BREAK) for part in parts if part]
    return ' · '.join([what, *whole])


def _check_size(network: PictureNetwork, picture: Picture) -> None:
    embedding = getattr(network.backbone, 'patch_embed', None)
    if getattr(embedding, 'strict_img_size', False):
        size = tuple(embedding.img_size)  # type: ignore[union-attr]
        if picture.size != size:
            raise ValueError(
                f'{network.name} takes images of {size[0]} x {size[1]} pixels only, '
                f'{picture.name} has {picture.size[0]} x {picture.size[1]}: give '
                f'--image-size {size[0]} {size[1]}'
            )
