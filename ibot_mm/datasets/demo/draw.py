# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What an image is made of: backgrounds, ink and colours."""

import cv2
import numpy as np

from .settings import DemoSettings
from .sources import Photograph

# Rec. 601 weights of red, green and blue in a grey value.
GREY_WEIGHTS = np.array([0.299, 0.587, 0.114])

# Width of the blend from one photograph to the next, as a fraction of the shorter side.
BLEND = 0.12


def draw_background(
    photographs: list[Photograph],
    size: tuple[int, int],
    pieces: int,
    settings: DemoSettings,
    random: np.random.Generator,
) -> np.ndarray:
    """Draw a background: pieces of photographs that blend into each other.

    Args:
        photographs: Regions to choose from.
        size: Height and width of the background.
        pieces: Number of pieces; each is around a random point, up to where another is nearer.
        settings: Parameters of the demo data.
        random: Source of all random draws.

    Returns:
        float64 (H, W, 3) RGB, within 0..255 up to the tails of the photographs' grey values.
    """
    rows, columns = np.mgrid[: size[0], : size[1]]
    points = random.random((pieces, 2)) * size
    distance = np.stack([(rows - row) ** 2 + (columns - column) ** 2 for row, column in points])
    weights = np.exp((distance.min(0) - distance) / (BLEND * min(size)) ** 2)
    weights /= weights.sum(0)
    background = np.zeros((*size, 3))
    for weight in weights:
        background += weight[..., None] * _draw_piece(photographs, size, settings, random)
    return background


def _draw_piece(
    photographs: list[Photograph],
    size: tuple[int, int],
    settings: DemoSettings,
    random: np.random.Generator,
) -> np.ndarray:
    """Draw a random piece of a random photograph, dimmed: float64 (H, W, 3) RGB."""
    photograph = photographs[random.integers(len(photographs))].image
    height, width = size
    # Between a piece of half and of twice the size, as far as the photograph reaches.
    largest = min(2.0, photograph.shape[0] / height, photograph.shape[1] / width)
    scale = random.uniform(min(0.5, largest), largest)
    rows, columns = (max(1, int(scale * side)) for side in size)
    top = random.integers(photograph.shape[0] - rows + 1)
    left = random.integers(photograph.shape[1] - columns + 1)
    piece = photograph[top : top + rows, left : left + columns]
    if random.random() < 0.5:
        piece = piece[:, ::-1]
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    piece = cv2.resize(np.ascontiguousarray(piece), (width, height), interpolation=method)
    piece = piece.astype(np.float64)

    # Mean and contrast are drawn anew, and dark enough for strokes to be lighter.
    piece -= piece.mean((0, 1))
    # At least a few grey levels, or an even piece of sky would be amplified to noise.
    contrast = max(float((piece @ GREY_WEIGHTS).std()), 4.0)
    piece *= random.uniform(*settings.background_contrast) / contrast
    piece += random.uniform(*settings.background_grey)
    return piece + random.normal(0, settings.background_tint, 3)


def draw_ink(digit: np.ndarray, height: float, angle: float, shear: float) -> np.ndarray:
    """Draw one digit.

    Args:
        digit: Ink of the source, float32 (8, 8) in 0..1.
        height: Height of the source before shear and rotation, in pixels.
        angle: Rotation in degrees, clockwise.
        shear: Horizontal shear as a fraction of the height.

    Returns:
        Opacity, float32 (H, W) in 0..1, as large as the digit.
    """
    radians = np.deg2rad(angle)
    cosine, sine = np.cos(radians), np.sin(radians)
    turn = np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1, shear], [0, 1]])
    matrix = np.zeros((2, 3))
    matrix[:, :2] = turn * height / len(digit)
    # The source's centre goes to the centre of a canvas that holds the digit at any angle.
    side = int(2 * height)
    matrix[:, 2] = side / 2 - matrix[:, :2] @ (3.5, 3.5)
    ink = cv2.warpAffine(digit, matrix, (side, side), flags=cv2.INTER_CUBIC)
    # The source is blurred by its few pixels: a steeper flank gives back a pen stroke.
    ink = ((ink - 0.25) / 0.4).clip(0, 1)
    y, x = np.nonzero(ink)
    return ink[y.min() : y.max() + 1, x.min() : x.max() + 1]


def draw_stroke_colour(
    behind: np.ndarray, settings: DemoSettings, random: np.random.Generator
) -> np.ndarray:
    """Draw a stroke colour: of any hue, and lighter than what is behind it.

    Lighter always, as chalk is: a small transformer takes far longer to learn that light and dark
    strokes mean the same than to learn the digits.

    Args:
        behind: Mean colour behind the stroke, RGB.
        settings: Parameters of the demo data.
        random: Source of all random draws.

    Returns:
        The colour, RGB; it may lie outside 0..255.
    """
    grey = behind @ GREY_WEIGHTS + random.uniform(*settings.stroke_contrast)
    cast = random.normal(0, settings.stroke_colour, 3)
    return grey + cast - cast @ GREY_WEIGHTS
