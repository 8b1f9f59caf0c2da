# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""How images are read and normalized for a network, as the config of its training says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .functional.image_statistics import MEAN, STD, normalize

LOADERS = ('ibot_mm.LoadImage', 'LoadImage')
PREPROCESSORS = ('ibot_mm.MultiCropPreprocessor', 'MultiCropPreprocessor')
# Of LoadImage, what decides on the pixels of other images than RGB of 8 bits.
OPTIONS = ('channels', 'channel_axis', 'in_range', 'in_percentiles', 'extra_channels', 'to_float32')


@dataclass(frozen=True)
class NetworkInput:
    """What a network's images are.

    Args:
        load: Options of :class:`ibot_mm.LoadImage`. Defaults to none: RGB of 8 bits.
        extensions: Endings of images' names. Defaults to None: all that can be decoded as RGB.
        mean: Of 0 to 255, one number for each channel. Defaults to ImageNet's.
        std: The same.
        to_rgb: Whether channels are reversed before that. Defaults to True.
        num_channels: That the network takes. Defaults to 3.
    """

    load: Mapping[str, Any] = field(default_factory=dict)
    extensions: tuple[str, ...] | None = None
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    to_rgb: bool = True
    num_channels: int = 3

    @classmethod
    def of(cls, config: Mapping[str, Any], num_channels: int) -> 'NetworkInput':
        """Read the config of a training.

        Args:
            config: Top-level name -> value; may lack everything.
            num_channels: That the network takes.
        """
        dataset = _mapping(config.get('train_dataloader'))
        while 'dataset' in dataset:  # of the loader, then of wrappers
            dataset = _mapping(dataset['dataset'])
        steps = dataset.get('pipeline') or ()
        steps = [*steps.values()] if isinstance(steps, Mapping) else steps
        loads = [step for step in map(_mapping, steps) if step.get('type') in LOADERS]
        load = {k: v for k, v in loads[0].items() if k in OPTIONS} if loads else {}
        extensions = dataset.get('extensions')
        told: dict[str, Any] = dict(extensions=tuple(extensions) if extensions else None)
        preprocessor = _mapping(_mapping(config.get('model')).get('data_preprocessor'))
        if preprocessor.get('type') in PREPROCESSORS:  # those of other libraries have other words
            told['mean'] = tuple(preprocessor.get('mean') or (0.0,))
            told['std'] = tuple(preprocessor.get('std') or (1.0,))
            told['to_rgb'] = bool(preprocessor.get('to_rgb'))
        return cls(load, num_channels=num_channels, **told)

    @property
    def is_rgb(self) -> bool:
        """Whether it is photographs, of three channels in BGR as mm loads them."""
        return self.num_channels == 3 and self.load.get('channels') is None

    @property
    def is_published(self) -> bool:
        """Whether it is RGB, normalized by ImageNet's statistics."""
        statistics = self.mean, self.std, self.to_rgb
        return self.is_rgb and statistics == (MEAN, STD, True)

    def prepare(self, images: Tensor) -> Tensor:
        """Make images (B, C, H, W) of 0 to 255, as they are loaded, the network's input."""
        images = images.flip(1) if self.to_rgb else images
        return normalize(images.float(), self.mean, self.std)

    def check(self) -> None:
        """Refuse a network of which nothing tells how its images are read.

        Raises:
            ValueError: It does not take three channels, and ``load`` reads others.
        """
        channels = self.load.get('channels')
        read = 3 if channels is None else channels if isinstance(channels, int) else len(channels)
        if read != self.num_channels:
            raise ValueError(
                f'the network takes {self.num_channels} channels, and its checkpoint does not tell '
                'how such images are read: give the config of its training (--config), in which '
                'LoadImage has channels and data_preprocessor mean and std'
            )

    def check_rgb(self, what: str) -> None:
        """Refuse what reads photographs only.

        Args:
            what: For the message, such as 'visualize_network'.

        Raises:
            ValueError: The network takes other images.
        """
        if not self.is_rgb:
            raise ValueError(
                f'{what}: RGB photographs only, and this network was trained on images of '
                f'{self.num_channels} channels of another kind; embed, and evaluate by k-NN, '
                'linear, logistic, clustering, kmeans and few_labels, take them'
            )


RGB = NetworkInput()


def count_channels(backbone: Any) -> int:
    """Return the channels that a backbone takes: those of its first convolution."""
    layers = (part for part in backbone.modules() if isinstance(part, nn.Conv2d))
    first = next(layers, None)
    return 3 if first is None else first.in_channels


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
