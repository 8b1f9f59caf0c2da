# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Part-wise linear probing: what a few patches tell of the class (section 4.3.2 of the paper).

Layout, as of the protocols over frozen features::

    ROOT/train/CLASS/*.jpg
    ROOT/val/CLASS/*.jpg

The published protocol augments the training images; this is the quick form, on the test view.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from ibot_mm.functional.attended_patches import mean_of_attended

from ..extraction import Loading
from ..features import NEIGHBORS, FeatureExtractor, FeatureLayout, FeatureSettings
from ..protocols.linear import linear
from ..protocols.measurement import Measurement, Options
from ..run import extract_splits
from ..splits import folder_splits
from ..views import evaluation_view
from .network import TaskNetwork, preparation
from .settings import settings_of

RAW = FeatureSettings(final_norm=False)  # as published: the final norm is left out


@dataclass(frozen=True)
class PartLinearSettings:
    """Settings of part-wise linear probing; the defaults are the published ones.

    Args:
        num_patches: Numbers k of patches, each a classifier of its own.
        least: Whether to take the patches with the least attention instead.
        image_size: Side of the test view in pixels.
    """

    num_patches: tuple[int, ...] = (1, 7, 14, 56, 112, 196)
    least: bool = False
    image_size: int = 224

    def as_dict(self) -> dict[str, Any]:
        """Return the settings, as they stand in keys of the cache."""
        return asdict(self)


def part_linear(network: TaskNetwork, root: Path, options: Options) -> list[Measurement]:
    """Probe the mean of the k most attended patches of the last block, for several k.

    Returns:
        For each k and learning rate ``top1`` and ``top5`` in percent.

    Raises:
        DataError: See :func:`check_part_linear`.
        ValueError: If an image has fewer patches than k, or the network is not a ViT with [CLS].
    """
    settings = settings_of(options, 'part_linear', PartLinearSettings)
    loading = Loading(
        options.images_per_batch, options.num_workers, options.device, preparation(network)
    )
    splits = extract_splits(
        PartExtractor(network, settings),
        _read_splits(root, settings),
        Path(options.work_dir) / 'features',
        loading=loading,
    )
    width, found = splits.layout.widths[0], []
    for number, k in enumerate(settings.num_patches):
        columns = slice(number * width, (number + 1) * width)
        part = replace(
            splits,
            train=splits.train[:, columns],
            held_out=splits.held_out[:, columns],
            layout=FeatureLayout((width,)),
            linear=NEIGHBORS,
        )
        chosen = f'{k} {"least" if settings.least else "most"} attended'
        for measurement in linear(part, options):
            setting = dict(patches=chosen) | measurement.setting
            found.append(Measurement(setting, measurement.metrics))
    return found


def check_part_linear(root: Path, options: Options) -> None:
    """Refuse folders without labeled images of the same classes.

    Raises:
        DataError: See :func:`ibot_mm.evaluation.check_splits`.
        ValueError: If an option is out of range.
    """
    settings = settings_of(options, 'part_linear', PartLinearSettings)
    if not settings.num_patches or min(settings.num_patches) < 1:
        raise ValueError(
            f'part_linear.num_patches must be at least 1 each, got {settings.num_patches}'
        )
    _read_splits(root, settings)


def _read_splits(root: Path, settings: PartLinearSettings) -> tuple[BaseDataset, BaseDataset]:
    init_default_scope('mmpretrain')
    return folder_splits(root, evaluation_view(settings.image_size))


class PartExtractor(nn.Module):
    """Makes the features of all numbers of patches, one after the other.

    Args:
        network: A ViT with [CLS].
        settings: Which patches.
    """

    def __init__(self, network: TaskNetwork, settings: PartLinearSettings) -> None:
        super().__init__()
        self.network, self.settings = network, settings
        self.backbone = network.backbone

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features (B, K * D) of images (B, 3, H, W)."""
        attention, patches = attention_and_patches(self.network, images)
        if (largest := max(self.settings.num_patches)) > patches.shape[1]:
            raise ValueError(
                f'images of {images.shape[-2]} x {images.shape[-1]} pixels have '
                f'{patches.shape[1]} patches, fewer than {largest}: choose '
                '--task-options part_linear.num_patches=...'
            )
        least = self.settings.least
        parts = [mean_of_attended(patches, attention, k, least) for k in self.settings.num_patches]
        return torch.cat(parts, dim=1)

    def layout(self, images: Tensor) -> FeatureLayout:
        """Return the columns of the features, seen from some images (B, 3, H, W)."""
        number = len(self.settings.num_patches)
        return FeatureLayout((self(images).shape[1] // number,) * number)


@torch.no_grad()
def attention_and_patches(network: TaskNetwork, images: Tensor) -> tuple[Tensor, Tensor]:
    """Run a network once for the attention of [CLS] and the patches of its last block.

    Args:
        network: A ViT with [CLS].
        images: Prepared, (B, 3, H, W).

    Returns:
        Attention (B, N), mean over the heads, and tokens (B, N, D) without the final norm.
    """
    extractor, kept = FeatureExtractor(network.backbone, RAW), []
    attention = network.cls_attention(images, lambda images: kept.extend(extractor.tokens(images)))
    return attention.mean(dim=1).flatten(1), kept[-1][:, 1:]
