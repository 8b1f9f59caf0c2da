# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A network whose tokens are colors, so that what a figure should show is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibot_mm.visualization import Picture

PATCH = 8


class Colors(nn.Module):
    """Tokens are the mean colors of patches, from -1 to 1; [CLS] is their mean."""

    num_layers = 2
    num_extra_tokens = 0  # [CLS] does not attend

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 1, PATCH, PATCH)
        self.patch_embed.patch_size = (PATCH, PATCH)

    def last_blocks(self, images: Tensor, num_blocks: int = 1) -> list[Tensor]:
        patches = F.avg_pool2d(images, PATCH).flatten(2).transpose(1, 2)
        last = torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1)
        return [last * (block + 1) for block in range(2 - num_blocks, 2)]


class Nearest(nn.Module):
    """Logits are the products with the colors red, green and blue."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.eye(3))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return tokens[:, 0] @ self.prototypes, tokens[:, 1:] @ self.prototypes


@pytest.fixture
def network() -> SimpleNamespace:
    return SimpleNamespace(
        backbone=Colors(),
        neck=Nearest(),
        name='colors_patch8',
        origin='epoch_1.pth (teacher)',
        prepare=lambda images: images.flip(1).float() / 127.5 - 1,
    )


def paint(rows: list[str], name: str = 'painted') -> Picture:
    """Make a picture of one letter a patch: r(ed), g, b, c(yan), m, y, k (black), w(hite)."""
    colors = dict(
        r=(255, 0, 0), g=(0, 255, 0), b=(0, 0, 255), k=(0, 0, 0),
        c=(0, 255, 255), m=(255, 0, 255), y=(255, 255, 0), w=(255, 255, 255),
    )  # fmt: skip
    cells = np.array([[colors[letter] for letter in row] for row in rows], dtype=np.uint8)
    return Picture(name, cells.repeat(PATCH, axis=0).repeat(PATCH, axis=1))


@pytest.fixture(name='paint')
def _paint():
    return paint
