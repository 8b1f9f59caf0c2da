# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""One scale for pixels of any type, 0 to 255, on which all later steps rely."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .image_errors import BrokenImageError, UnsupportedImageError

Pair = tuple[float, float]


@dataclass(frozen=True)
class PixelRange:
    """How values of more than 8 bits become 0 to 255; 8 bits stay as they are.

    Args:
        in_range: Values that become 0 and 255; what lies outside is clipped. One pair for all
            channels, or a list with one pair for each. Defaults to None.
        in_percentiles: The same in percent of each image's own values, for images of unlike
            exposure. Defaults to None.
        extra_channels: 'raise', or 'drop' to read the first three. Defaults to 'raise'.
        to_float32: Whether to keep the steps between the 256 levels. Defaults to False.

    Raises:
        ValueError: A pair is not (low, high) with low < high, percentiles leave 0 to 100, both
            are given, or ``extra_channels`` is neither of the two.
    """

    in_range: Pair | Sequence[Pair] | None = None
    in_percentiles: Pair | None = None
    extra_channels: str = 'raise'
    to_float32: bool = False

    def __post_init__(self) -> None:
        if self.in_range is not None and self.in_percentiles is not None:
            raise ValueError('LoadImage takes in_range or in_percentiles, not both')
        for pair in self.pairs:
            _check_pair('in_range', pair)
        if self.in_percentiles is not None:
            _check_pair('in_percentiles', self.in_percentiles)
            if not 0 <= self.in_percentiles[0] < self.in_percentiles[1] <= 100:
                raise ValueError(
                    f'LoadImage: in_percentiles must lie in 0 to 100, got {self.in_percentiles}'
                )
        if self.extra_channels not in ('raise', 'drop'):
            raise ValueError(
                f"LoadImage: extra_channels must be 'raise' or 'drop', got {self.extra_channels!r}"
            )

    @property
    def pairs(self) -> list[Pair]:
        """The pairs of ``in_range``: none, one for all channels, or one for each."""
        given: Any = self.in_range
        if given is None:
            return []
        return [given] if not isinstance(given[0], Sequence) else list(given)

    def scale(self, pixels: np.ndarray, each_channel: bool = False) -> np.ndarray:
        """Bring pixels to 0 to 255.

        Args:
            pixels: Numbers of any type, (H, W, C).
            each_channel: Whether percentiles are of each channel alone, for channels of unlike
                kinds, rather than of the whole image, which keeps colors. Defaults to False.

        Returns:
            uint8 (H, W, C), or float32 with ``to_float32``.

        Raises:
            BrokenImageError: Some values are not finite.
            UnsupportedImageError: More than 8 bits, and no range; other numbers of pairs than
                channels.
        """
        if pixels.dtype == np.uint8:
            return pixels.astype(np.float32) if self.to_float32 else pixels
        if pixels.dtype.kind == 'f' and not np.isfinite(pixels).all():
            number = pixels.size - int(np.isfinite(pixels).sum())
            raise BrokenImageError(
                f'{number} of {pixels.size} values are not finite (NaN or infinite): write a '
                'number in their place'
            )
        low, high = self._ends(pixels, each_channel)
        scaled = ((pixels.astype(np.float64) - low) * (255 / (high - low))).clip(0, 255)
        return scaled.astype(np.float32) if self.to_float32 else scaled.round().astype(np.uint8)

    def _ends(self, pixels: np.ndarray, each_channel: bool) -> tuple[np.ndarray, np.ndarray]:
        """Values that become 0 and 255, each (1,) or (C,)."""
        pairs = self.pairs
        if len(pairs) > 1 and len(pairs) != pixels.shape[2]:
            raise UnsupportedImageError(
                f'it has {pixels.shape[2]} channels, and in_range has {len(pairs)} pairs: give one '
                'pair for each channel that is read, or one for all'
            )
        if pairs:
            low, high = np.array(pairs, dtype=np.float64).T
            return low, high
        if self.in_percentiles is None:
            least, most = pixels.min(), pixels.max()
            raise UnsupportedImageError(
                f'its values are {pixels.dtype}, here {least} to {most}, and 8 bits would keep few '
                'of their steps: say which become 0 and 255, the same for all images, by '
                f'LoadImage(in_range=({least}, {most})), or in percent of each by '
                'LoadImage(in_percentiles=(0, 100))'
            )
        values = pixels.astype(np.float64)
        low, high = np.percentile(values, self.in_percentiles, (0, 1) if each_channel else None)
        return low, np.where(high > low, high, low + 1)  # of a flat image


def _check_pair(name: str, pair: Any) -> None:
    if not (isinstance(pair, Sequence) and len(pair) == 2 and pair[0] < pair[1]):
        raise ValueError(f'LoadImage: {name} must be (low, high), low < high, got {pair}')


EIGHT_BITS = PixelRange()
