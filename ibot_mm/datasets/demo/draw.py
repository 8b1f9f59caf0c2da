# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What an image is made of: backgrounds, ink and colors."""

import cv2
import numpy as np

from .demo_settings import DemoSettings
from .sources import Photograph

# Rec. 601 weights of red, green and blue in a gray value.
GRAY_WEIGHTS = np.array([0.299, 0.587, 0.114])

# Width of the blend from one photograph to the next, as a fraction of the shorter side.
BLEND = 0.12


def draw_background(
    photographs: list[Photograph],
    size: tuple[int, int],
    settings: DemoSettings,
    random: np.random.Generator,
) -> np.ndarray:
    """Draw the background of a classification image: pieces that blend into each other.

    Each piece is around a random point, up to where another is nearer.

    Args:
        photographs: Regions to choose from.
        size: Height and width of the background.
        settings: Parameters of the demo data.
        random: Source of all random draws.

    Returns:
        float64 (H, W, 3) RGB, within 0..255 up to the tails of the photographs' gray values.
    """
    rows, columns = np.mgrid[: size[0], : size[1]]
    points = random.random((settings.background_pieces, 2)) * size
    distance = np.stack([(rows - row) ** 2 + (columns - column) ** 2 for row, column in points])
    weights = np.exp((distance.min(0) - distance) / (BLEND * min(size)) ** 2)
    weights /= weights.sum(0)
    background = np.zeros((*size, 3))
    for weight in weights:
        gray, contrast = settings.background_gray, settings.background_contrast
        piece = draw_piece(photographs, size, gray, contrast, random)
        piece += random.normal(0, settings.background_tint, 3)
        background += weight[..., None] * piece
    return background


def draw_piece(
    photographs: list[Photograph],
    size: tuple[int, int],
    gray: tuple[float, float],
    contrast: tuple[float, float],
    random: np.random.Generator,
) -> np.ndarray:
    """Draw a random piece of a random photograph.

    Args:
        photographs: Regions to choose from.
        size: Height and width of the piece.
        gray: Range of its mean gray value.
        contrast: Range of the standard deviation of its gray values.
        random: Source of all random draws.

    Returns:
        float64 (H, W, 3) RGB.
    """
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
    # At least a few gray levels, or an even piece of sky would be amplified to noise.
    deviation = max(float((piece @ GRAY_WEIGHTS).std()), 4.0)
    piece *= random.uniform(*contrast) / deviation
    return piece + random.uniform(*gray)


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
    # The source's center goes to the center of a canvas that holds the digit at any angle.
    side = int(2 * height)
    matrix[:, 2] = side / 2 - matrix[:, :2] @ (3.5, 3.5)
    ink = cv2.warpAffine(digit, matrix, (side, side), flags=cv2.INTER_CUBIC)
    # The source is blurred by its few pixels: a steeper flank gives back a pen stroke.
    ink = ((ink - 0.25) / 0.4).clip(0, 1)
    y, x = np.nonzero(ink)
    return ink[y.min() : y.max() + 1, x.min() : x.max() + 1]


def draw_paper(size: tuple[int, int], angle: float, hole: bool) -> np.ndarray:
    """Draw the shape of a note.

    Args:
        size: Height and width of the paper in pixels, before rotation.
        angle: Rotation in degrees, clockwise.
        hole: Whether it is punched.

    Returns:
        How much of each pixel is paper, float32 (H, W) in 0..1, as large as the note.
    """
    height, width = size
    paper = np.ones((height, width), np.float32)
    if hole:
        cv2.circle(paper, (width // 2, height // 5), height // 8, 0, thickness=-1)
    matrix: np.ndarray = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -angle, 1.0)
    side = height + width
    matrix[:, 2] += np.array([side - width, side - height]) / 2
    turned = cv2.warpAffine(paper, matrix, (side, side), flags=cv2.INTER_LINEAR)
    y, x = np.nonzero(turned)
    return turned[y.min() : y.max() + 1, x.min() : x.max() + 1]


def draw_stroke_color(
    behind: np.ndarray, settings: DemoSettings, random: np.random.Generator
) -> np.ndarray:
    """Draw a stroke color: of any hue, and lighter than what is behind it.

    Lighter always, as chalk is: a small transformer takes far longer to learn that light and dark
    strokes mean the same than to learn the digits.

    Args:
        behind: Mean color behind the stroke, RGB.
        settings: Parameters of the demo data.
        random: Source of all random draws.

    Returns:
        The color, RGB; it may lie outside 0..255.
    """
    gray = behind @ GRAY_WEIGHTS + random.uniform(*settings.stroke_contrast)
    cast = random.normal(0, settings.stroke_color, 3)
    return gray + cast - cast @ GRAY_WEIGHTS
