# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Composing one image: handwritten digits on pieces of photographs, or notes full of digits."""

from dataclasses import dataclass

import cv2
import numpy as np

from .demo_settings import DemoSettings
from .draw import draw_background, draw_ink, draw_paper, draw_piece, draw_stroke_color
from .sources import load_digit_source, load_photographs

# Opacity from which on a pixel belongs to an instance, and below which it is background.
SOLID, CLEAR = 0.5, 0.1

# Places tried for an instance before the image counts as full.
ATTEMPTS = 50


@dataclass
class Instance:
    """One annotated region: a digit of a classification image; a note of a scene, or a crowd.

    Args:
        label: The digit, 0 to 9.
        mask: Its pixels, bool (H, W).
        crowd: Whether this is a crowd of notes.
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
        instances: What is in it; their masks do not overlap.
        opacity: How much of each pixel is ink, or paper, float32 (H, W) in 0..1.
    """

    image: np.ndarray
    instances: list[Instance]
    opacity: np.ndarray

    def semantic_map(self, background: int, ignored: int) -> np.ndarray:
        """Return the class of each pixel.

        Args:
            background: Value of pixels of no instance.
            ignored: Value of soft borders, which are neither.

        Returns:
            uint8 (H, W): the digit where there is one, else one of the two values.
        """
        classes = np.full(self.opacity.shape, ignored, np.uint8)
        classes[self.opacity < CLEAR] = background
        for instance in self.instances:
            classes[instance.mask] = instance.label
        return classes


@dataclass
class Note:
    """A piece of a classification image.

    Args:
        image: float64 (H, W, 3) RGB.
        paper: How much of each pixel belongs to it, float32 (H, W) in 0..1.
        sources: As of :class:`Instance`.
    """

    image: np.ndarray
    paper: np.ndarray
    sources: list[int]


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
        settings = self.settings
        size = (settings.image_size, settings.image_size)
        canvas = draw_background(self.photographs, size, settings, random)
        opacity = np.zeros(size, np.float32)
        instances: list[Instance] = []
        for _ in range(random.integers(settings.digits[0], settings.digits[1] + 1)):
            ink, source = self._draw_digit(label, random)
            place = _find_place(ink, opacity, random)
            if place is None:
                continue
            behind = canvas[place][ink >= SOLID].mean(0)
            color = draw_stroke_color(behind, settings, random)
            instances.append(_put(canvas, opacity, place, color, ink, label, False, [source]))
        return _finish(canvas, opacity, instances)

    def compose_scene(self, random: np.random.Generator) -> Scene:
        """Compose a detection or segmentation image: notes of several classes, and crowds.

        Args:
            random: Source of all random draws.

        Returns:
            A scene of ``scene_size``.
        """
        settings = self.settings
        size = settings.scene_size
        gray, contrast = settings.scene_gray, settings.scene_contrast
        canvas = draw_piece(self.photographs, size, gray, contrast, random)
        opacity = np.zeros(size, np.float32)
        instances: list[Instance] = []
        for _ in range(random.integers(settings.notes[0], settings.notes[1] + 1)):
            label = int(random.integers(10))
            crowd = random.random() < settings.crowd_prob
            note = self._draw_crowd(label, random) if crowd else self._draw_note(label, random)
            place = _find_place(note.paper, opacity, random)
            if place is None:
                continue
            instances.append(
                _put(canvas, opacity, place, note.image, note.paper, label, crowd, note.sources)
            )
        return _finish(canvas, opacity, instances)

    def _draw_digit(self, label: int, random: np.random.Generator) -> tuple[np.ndarray, int]:
        """Draw the ink of one digit; returns it with the row of its source."""
        row = random.choice(self.rows[label])
        height = random.uniform(*self.settings.digit_height) * self.settings.image_size
        angle = random.uniform(*self.settings.rotation)
        shear = random.uniform(*self.settings.shear)
        ink = draw_ink(self.digits.images[row], height, angle, shear)
        return ink, int(self.digits.indices[row])

    def _draw_note(self, label: int, random: np.random.Generator) -> Note:
        """Cut a note out of a classification image."""
        whole = self.compose_class(label, random)
        height, width = (random.uniform(*self.settings.note_size, 2) * len(whole.image)).astype(int)
        angle = random.uniform(*self.settings.rotation)
        paper = draw_paper((height, width), angle, random.random() < self.settings.hole_prob)
        place = _random_place(paper.shape, whole.opacity.shape, random)
        seen = (i for i in whole.instances if (i.mask[place] & (paper > 0)).any())
        sources = [source for instance in seen for source in instance.sources]
        return Note(whole.image[place].astype(np.float64), paper, sources)

    def _draw_crowd(self, label: int, random: np.random.Generator) -> Note:
        """Draw several notes of a class over each other."""
        notes = [self._draw_note(label, random) for _ in range(random.integers(3, 6))]
        # Somewhat larger than the largest note: they cannot all have a place.
        size = tuple(int(1.25 * max(note.paper.shape[axis] for note in notes)) for axis in (0, 1))
        pile = Note(np.zeros((*size, 3)), np.zeros(size, np.float32), [])
        for note in notes:
            place = _random_place(note.paper.shape, size, random)
            pile.image[place] += note.paper[..., None] * (note.image - pile.image[place])
            pile.paper[place] = np.maximum(pile.paper[place], note.paper)
            pile.sources += note.sources
        return pile


def _put(
    canvas: np.ndarray,
    opacity: np.ndarray,
    place: tuple[slice, slice],
    color: np.ndarray,
    cover: np.ndarray,
    label: int,
    crowd: bool,
    sources: list[int],
) -> Instance:
    """Blend a color, or an image, into a place of the canvas, as far as it covers the pixels."""
    canvas[place] += cover[..., None] * (color - canvas[place])
    opacity[place] += cover
    mask = np.zeros(opacity.shape, bool)
    mask[place] = cover >= SOLID
    return Instance(label, mask, crowd, sources)


def _finish(canvas: np.ndarray, opacity: np.ndarray, instances: list[Instance]) -> Scene:
    return Scene(canvas.clip(0, 255).round().astype(np.uint8), instances, opacity)


def _random_place(
    part: tuple[int, ...], whole: tuple[int, ...], random: np.random.Generator
) -> tuple[slice, slice]:
    """Rows and columns of a random place for a part inside a whole, given their shapes."""
    top, left = (random.integers(whole[axis] - part[axis] + 1) for axis in (0, 1))
    return slice(top, top + part[0]), slice(left, left + part[1])


def _find_place(
    cover: np.ndarray, opacity: np.ndarray, random: np.random.Generator
) -> tuple[slice, slice] | None:
    """Find a random place that touches nothing there; None if there is hardly one."""
    taken = cv2.dilate(opacity, np.ones((3, 3))) > 0
    for _ in range(ATTEMPTS):
        place = _random_place(cover.shape, opacity.shape, random)
        if not (taken[place] & (cover > 0)).any():
            return place
    return None
