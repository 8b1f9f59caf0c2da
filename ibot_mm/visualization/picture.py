# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""An image as it is shown, and as a network can cut it into patches."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Picture:
    """An image, and where it lies in its file.

    Args:
        name: For titles and messages, such as the file's.
        pixels: uint8 RGB, (H, W, 3).
        scale: Pixels for one of the file, (y, x). Defaults to (1, 1).
        offset: Pixels cut off at the top and left, (y, x). Defaults to (0, 0).
    """

    name: str
    pixels: np.ndarray
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[int, int] = (0, 0)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def crop_to_grid(self, stride: tuple[int, int]) -> 'Picture':
        """Cut the margin, the same at both sides, that does not make a whole patch.

        Args:
            stride: Height and width of a patch in pixels.

        Raises:
            ValueError: If the image is smaller than a patch.
        """
        height, width = (side // step * step for side, step in zip(self.size, stride))
        if not height or not width:
            raise ValueError(
                f'{self.name}: an image of {self.size[0]} x {self.size[1]} pixels is smaller than '
                f'one patch of {stride[0]} x {stride[1]}: show it larger (--image-size)'
            )
        top, left = (self.size[0] - height) // 2, (self.size[1] - width) // 2
        return replace(
            self,
            pixels=self.pixels[top : top + height, left : left + width],
            offset=(self.offset[0] + top, self.offset[1] + left),
        )

    def locate(self, x: float, y: float) -> tuple[float, float]:
        """Return where a pixel of the file lies in the picture, (x, y).

        Raises:
            ValueError: If it lies outside.
        """
        place = tuple(
            (value + 0.5) * scale - offset
            for value, scale, offset in zip((y, x), self.scale, self.offset)
        )
        if not all(0 <= value < side for value, side in zip(place, self.size)):
            limits = [
                (offset / scale, (offset + side) / scale)
                for offset, scale, side in zip(self.offset, self.scale, self.size)
            ]
            raise ValueError(
                f'{self.name}: the point x={x:g}, y={y:g} is outside of what is shown, '
                f'x from {limits[1][0]:.0f} to {limits[1][1]:.0f} and '
                f'y from {limits[0][0]:.0f} to {limits[0][1]:.0f} pixels of the file'
            )
        return place[1], place[0]
