# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Every number that shapes the demo data, in one place."""

from dataclasses import dataclass

SPLITS = ('train', 'val')


@dataclass(frozen=True)
class DemoSettings:
    """Parameters of the demo data.

    Ranges are (lowest, highest) and drawn uniformly; gray values are of 255. None of the draws
    depends on the label.

    Args:
        seed: Seed of every random draw. The n-th image of a set depends on the seed and n only,
            so that a larger set begins with the images of a smaller one.
        num_train: Classification images for training, spread evenly over the ten classes.
        num_val: Classification images for validation, spread evenly over the ten classes.
        num_scenes_train: Images for training in the detection set, and again in the
            segmentation set.
        num_scenes_val: The same for validation.
        image_size: Side of the square classification images in pixels.
        scene_scale: Height and width of detection and segmentation images, called scenes, as
            multiples of ``image_size``.
        digits: Number of digits in a classification image, fewer where there is no room: about a
            dozen. An 8 has more ink than a 7, so the share of the image that is ink says something
            about the label; it is the only such cue besides the shapes.
        notes: Number of notes and crowds in a scene, fewer where there is no room. A note is a
            piece cut out of a classification image: to tell its class, digits must be read, which
            is what pre-training can teach.
        note_size: Sides of a note before rotation, as fractions of ``image_size``.
        digit_height: Height of a digit before rotation as a fraction of ``image_size``, in scenes
            too: digits have the same size in all three sets.
        rotation: Rotation of a digit, and of a note, in degrees.
        shear: Horizontal shear of a digit, as a fraction of its height.
        background_pieces: Number of pieces of photographs that make up the background of a
            classification image, so that two crops of it share the digit and not the background;
            with a single one, self-supervised training learns to tell backgrounds apart instead.
            A scene has one photograph.
        background_gray: Mean gray value of a piece.
        background_tint: Standard deviation of the color cast that is added to the mean.
        background_contrast: Standard deviation of the gray values of a piece.
        scene_gray: Mean gray value of a scene's photograph: it is darker than the notes.
        scene_contrast: Standard deviation of its gray values.
        stroke_contrast: By how much a digit is lighter than the background behind it, drawn for
            each digit.
        stroke_color: Standard deviation of the color of a digit around its gray value.
        hole_prob: Chance that a note is punched. The hole is not part of it.
        crowd_prob: Chance that a crowd takes the place of a note: several notes of one class
            over each other, annotated as one region (``iscrowd=1`` of COCO).
        jpeg_quality: Quality of the JPEG files.

    Raises:
        ValueError: If a count or a size is too small.
    """

    seed: int = 0
    num_train: int = 3000
    num_val: int = 1000
    num_scenes_train: int = 100
    num_scenes_val: int = 100
    image_size: int = 64
    scene_scale: tuple[float, float] = (2, 2.5)
    digits: tuple[int, int] = (16, 18)
    notes: tuple[int, int] = (2, 6)
    note_size: tuple[float, float] = (0.65, 0.8)
    digit_height: tuple[float, float] = (0.2, 0.265)
    rotation: tuple[float, float] = (-12, 12)
    shear: tuple[float, float] = (-0.1, 0.1)
    background_pieces: int = 14
    background_gray: tuple[float, float] = (95, 105)
    background_tint: float = 2
    background_contrast: tuple[float, float] = (3, 5)
    scene_gray: tuple[float, float] = (60, 85)
    scene_contrast: tuple[float, float] = (4, 10)
    stroke_contrast: tuple[float, float] = (95, 105)
    stroke_color: float = 3
    hole_prob: float = 0.2
    crowd_prob: float = 0.04
    jpeg_quality: int = 95

    def __post_init__(self) -> None:
        for name in ('num_train', 'num_val'):
            if getattr(self, name) < 10:
                raise ValueError(
                    f'{name}={getattr(self, name)} is too few: each of the ten classes needs at '
                    'least one image; ask for 10 or more'
                )
        for name in ('num_scenes_train', 'num_scenes_val'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name}={getattr(self, name)} must be at least 1')
        if self.image_size < 32:
            raise ValueError(
                f'image_size={self.image_size} is too small for legible digits: it must be at '
                'least 32'
            )

    @property
    def scene_size(self) -> tuple[int, int]:
        """Height and width of detection and segmentation images in pixels."""
        height, width = (round(scale * self.image_size) for scale in self.scene_scale)
        return height, width
