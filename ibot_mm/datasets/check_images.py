# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Read every image of a folder before a training does."""

import hashlib
import multiprocessing
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from .find_images import EXTENSIONS, FoundFiles, find_images
from .transforms.decode_image import decode_image
from .transforms.image_errors import UnsupportedImageError
from .transforms.pixel_range import EIGHT_BITS, PixelRange
from .transforms.read_channels import read_channels

UNUSABLE = ('broken', 'unsupported', 'tiny', 'duplicate')
EXIF_ORIENTATION = 0x0112


@dataclass
class ImageReport:
    """What reading one image has shown.

    Args:
        path: Relative to the folder.
        kinds: Of 'broken', 'unsupported', 'tiny', 'gray', 'CMYK', 'deep' (more than 8 bits),
            'turned' (by an EXIF orientation) and 'duplicate'; none for a plain image.
        reason: Why it is broken or unsupported, or of which image it is a duplicate.
        size: (height, width), None where it cannot be read.
        digest: Of the file's content.
    """

    path: str
    kinds: list[str] = field(default_factory=list)
    reason: str = ''
    size: tuple[int, int] | None = None
    digest: bytes = b''


@dataclass
class FolderReport:
    """What reading all images of a folder has shown.

    Args:
        found: The files that were found.
        images: A report for each image, in the order of ``found.images``.
    """

    found: FoundFiles
    images: list[ImageReport]

    @property
    def counts(self) -> Counter[str]:
        """Number of images of each kind."""
        return Counter(kind for image in self.images for kind in image.kinds)

    @property
    def clean(self) -> list[str]:
        """Paths of the images to train on: neither broken, unsupported, tiny nor a duplicate."""
        return [image.path for image in self.images if not set(UNUSABLE) & set(image.kinds)]

    def to_dict(self) -> dict:
        """Return plain numbers and texts, plain images left out."""
        marked = [asdict(image) for image in self.images if image.kinds]
        for image in marked:
            del image['digest']
        return dict(
            images=len(self.images),
            passed_over=dict(self.found.passed_over),
            counts=dict(self.counts),
            marked=marked,
        )


def check_image(
    path: str,
    root: str,
    min_size: int = 32,
    pixel_range: PixelRange = EIGHT_BITS,
    channels: int | Sequence[int] | None = None,
) -> ImageReport:
    """Read one image.

    Args:
        path: Relative to ``root``.
        root: The folder.
        min_size: A shorter side below this many pixels is tiny. Defaults to 32.
        pixel_range: As :class:`ibot_mm.LoadImage` will be set in the training.
        channels: The same. Defaults to None, RGB.

    Returns:
        The report.
    """
    report = ImageReport(path)
    try:
        content = Path(root, path).read_bytes()
        report.digest = hashlib.blake2b(content, digest_size=16).digest()
        if channels is None:
            pixels = decode_image(content, pixel_range)
        else:
            pixels = pixel_range.scale(read_channels(content, channels), each_channel=True)
    except Exception as error:  # readers raise what they like
        unsupported = isinstance(error, UnsupportedImageError)
        report.kinds.append('unsupported' if unsupported else 'broken')
        report.reason = str(error)
        if unsupported and 'its values are' in report.reason:
            report.kinds.append('deep')
        return report
    height, width = pixels.shape[:2]
    report.size = (height, width)
    if min(report.size) < min_size:
        report.kinds.append('tiny')
    if channels is not None:
        return report
    if np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(
        pixels[..., 0], pixels[..., 2]
    ):
        report.kinds.append('gray')
    try:
        with Image.open(BytesIO(content)) as image:
            if image.mode == 'CMYK':
                report.kinds.append('CMYK')
            if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
                report.kinds.append('turned')
    except Exception:  # Pillow does not know all that OpenCV does
        pass
    return report


def check_folder(
    root: str,
    min_size: int = 32,
    pixel_range: PixelRange = EIGHT_BITS,
    num_workers: int = 4,
    track: Callable[[Iterable[ImageReport], int], Iterable[ImageReport]] = lambda items, _: items,
    channels: int | Sequence[int] | None = None,
    extensions: Sequence[str] = EXTENSIONS,
) -> FolderReport:
    """Read all images below a folder, in several processes.

    Args:
        root: The folder.
        min_size: A shorter side below this many pixels is tiny. Defaults to 32.
        pixel_range: As :class:`ibot_mm.LoadImage` will be set in the training.
        num_workers: Processes. Defaults to 4.
        track: Wraps the reports, of which it gets the number, to show progress.
        channels: As :class:`ibot_mm.LoadImage` will be set. Defaults to None, RGB.
        extensions: Endings of images' names. Defaults to all that can be decoded as RGB.

    Returns:
        The report.
    """
    found = find_images(root, tuple(extensions))
    check = partial(
        check_image, root=root, min_size=min_size, pixel_range=pixel_range, channels=channels
    )
    if num_workers <= 1:
        images = list(track(map(check, found.images), len(found.images)))
    else:
        context = multiprocessing.get_context('spawn')  # forks would share OpenCV's threads
        with ProcessPoolExecutor(num_workers, context) as pool:
            results = pool.map(check, found.images, chunksize=32)
            images = list(track(results, len(found.images)))
    by_digest: dict[bytes, list[ImageReport]] = defaultdict(list)
    for image in images:
        if image.digest:
            by_digest[image.digest].append(image)
    for first, *others in by_digest.values():
        for image in others:
            image.kinds.append('duplicate')
            image.reason = image.reason or f'the same file as {first.path}'
    return FolderReport(found, images)
