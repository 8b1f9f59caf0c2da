# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Composing one image: handwritten digits scattered over a piece of a photograph."""

from dataclasses import dataclass

import cv2
import numpy as np

from .draw import draw_background, draw_ink, draw_stroke_colour
from .settings import DemoSettings
from .sources import load_digit_source, load_photographs

# Opacity from which on a pixel belongs to a digit, and below which it is background.
SOLID, CLEAR = 0.5, 0.1

# Places tried for a digit before the image counts as full.
ATTEMPTS = 50


@dataclass
class Instance:
    """One annotated region of a scene: a digit, or a crowd of digits of one class.

    Args:
        label: The digit, 0 to 9.
        mask: Pixels of the digit, bool (H, W).
        crowd: Whether this is a crowd.
        sources: Rows of ``sklearn.datasets.load_digits`` that were drawn.
    """

    label: int
    mask: np.ndarray
    crowd: bool
    sources: list[int]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Smallest box around the mask: left, top, width, height in pixels."""
        rows = np.flatnonzero(self.mask.any(1))
        columns = np.flatnonzero(self.mask.any(0))
        left, top = int(columns[0]), int(rows[0])
        return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1


@dataclass
class Scene:
    """A composed image and what is known of it.

    Args:
        image: uint8 (H, W, 3) RGB.
        instances: The digits in it; their masks do not overlap.
        opacity: How much of each pixel is ink, float32 (H, W) in 0..1.
    """

    image: np.ndarray
    instances: list[Instance]
    opacity: np.ndarray

    def semantic_map(self, background: int, ignored: int) -> np.ndarray:
        """Class of each pixel.

        Args:
            background: Value of pixels without ink.
            ignored: Value of the soft borders of strokes, which are neither.

        Returns:
            uint8 (H, W): the digit where there is one, else one of the two values.
        """
        classes = np.full(self.opacity.shape, ignored, np.uint8)
        classes[self.opacity < CLEAR] = background
        for instance in self.instances:
            classes[instance.mask] = instance.label
        return classes


class Composer:
    """Composes images from the digits and photographs of one split.

    Args:
        settings: Parameters of the demo data.
        split: 'train' or 'val'.
    """

    def __init__(self, settings: DemoSettings, split: str) -> None:
        self.settings = settings
        self.digits = load_digit_source(split)
        self.photographs = load_photographs(split)
        self.rows = [np.flatnonzero(self.digits.labels == label) for label in range(10)]

    def compose_class(self, label: int, random: np.random.Generator) -> Scene:
        """Compose a classification image: every digit in it is of one class.

        Args:
            label: The class, 0 to 9.
            random: Source of all random draws.

        Returns:
            A square scene of side ``image_size``.
        """
        size = (self.settings.image_size, self.settings.image_size)
        return self._compose(size, self.settings.digits, random, label)

    def compose_scene(self, random: np.random.Generator) -> Scene:
        """Compose a detection or segmentation image: digits of several classes, and crowds.

        Args:
            random: Source of all random draws.

        Returns:
            A scene of ``scene_size``.
        """
        return self._compose(self.settings.scene_size, self.settings.scene_digits, random)

    def _compose(
        self,
        size: tuple[int, int],
        digits: tuple[int, int],
        random: np.random.Generator,
        label: int | None = None,
    ) -> Scene:
        """Compose one image; without ``label`` each region draws its own, and may be a crowd."""
        pieces = 1 if label is None else self.settings.background_pieces
        canvas = draw_background(self.photographs, size, pieces, self.settings, random)
        opacity = np.zeros(size, np.float32)
        instances: list[Instance] = []
        for _ in range(random.integers(digits[0], digits[1] + 1)):
            crowd = label is None and random.random() < self.settings.crowd_probability
            digit = int(random.integers(10)) if label is None else label
            ink, sources = self._draw_crowd(digit, random) if crowd else self._draw(digit, random)
            place = _find_place(ink, opacity, random)
            if place is None:
                continue
            solid = ink >= SOLID
            behind = canvas[place][solid].mean(0)
            colour = draw_stroke_colour(behind, self.settings, random)
            canvas[place] += ink[..., None] * (colour - canvas[place])
            opacity[place] += ink
            mask = np.zeros(size, bool)
            mask[place] = solid
            instances.append(Instance(digit, mask, crowd, sources))
        image = canvas.clip(0, 255).round().astype(np.uint8)
        return Scene(image, instances, opacity)

    def _draw(self, label: int, random: np.random.Generator) -> tuple[np.ndarray, list[int]]:
        """Draw the ink of one digit; returns it with the row of its source."""
        row = random.choice(self.rows[label])
        height = random.uniform(*self.settings.digit_height) * self.settings.image_size
        angle = random.uniform(*self.settings.rotation)
        shear = random.uniform(*self.settings.shear)
        ink = draw_ink(self.digits.images[row], height, angle, shear)
        return ink, [int(self.digits.indices[row])]

    def _draw_crowd(self, label: int, random: np.random.Generator) -> tuple[np.ndarray, list[int]]:
        """Draw several digits of a class over each other; returns ink and rows of the sources."""
        drawn = [self._draw(label, random) for _ in range(random.integers(3, 6))]
        # Half as wide and high again as the largest digit: they cannot all have a place.
        size = [int(1.5 * max(ink.shape[axis] for ink, _ in drawn)) for axis in (0, 1)]
        crowd = np.zeros(size, np.float32)
        for ink, _ in drawn:
            place = _random_place(ink.shape, crowd.shape, random)
            crowd[place] = np.maximum(crowd[place], ink)
        return crowd, [source for _, sources in drawn for source in sources]


def _random_place(
    part: tuple[int, ...], whole: tuple[int, ...], random: np.random.Generator
) -> tuple[slice, slice]:
    """Rows and columns of a random place for a part inside a whole, given their shapes."""
    top, left = (random.integers(whole[axis] - part[axis] + 1) for axis in (0, 1))
    return slice(top, top + part[0]), slice(left, left + part[1])


def _find_place(
    ink: np.ndarray, opacity: np.ndarray, random: np.random.Generator
) -> tuple[slice, slice] | None:
    """Find a random place where the ink touches no other; None if there is hardly one."""
    taken = cv2.dilate(opacity, np.ones((3, 3))) > 0
    for _ in range(ATTEMPTS):
        place = _random_place(ink.shape, opacity.shape, random)
        if not (taken[place] & (ink > 0)).any():
            return place
    return None
