# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Which bytes of an image are packed."""

from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from ibot_mm.datasets.transforms.decode_image import decode_image
from ibot_mm.datasets.transforms.image_errors import UnsupportedImageError

# First bytes of formats, for images without an extension.
SIGNATURES = {
    b'\xff\xd8': 'jpg',
    b'\x89PNG': 'png',
    b'RIFF': 'webp',
    b'II*\0': 'tif',
    b'MM\0*': 'tif',
    b'GIF8': 'gif',
    b'BM': 'bmp',
}


@dataclass(frozen=True)
class Encoding:
    """Keeps the bytes of an image, or makes a smaller JPEG of it.

    Args:
        short_side: Larger images are shrunk until their shorter side has so many pixels, by
            antialiased bicubic interpolation, and become JPEG. Defaults to None: none is shrunk.
        reencode: Make a JPEG of every image. Defaults to False: bytes are kept.
        quality: Of JPEGs that are made. Defaults to 95.

    Raises:
        ValueError: If a number is out of its range.
    """

    short_side: int | None = None
    reencode: bool = False
    quality: int = 95

    def __post_init__(self) -> None:
        if self.short_side is not None and self.short_side < 1:
            raise ValueError(f'short_side must be at least 1 pixel, got {self.short_side}')
        if not 1 <= self.quality <= 100:
            raise ValueError(f'quality must be 1 to 100, got {self.quality}')

    @property
    def changes(self) -> bool:
        """Whether any image may become another file."""
        return self.reencode or self.short_side is not None

    def apply(self, content: bytes) -> tuple[bytes, str]:
        """Decode an image, and encode it where that is asked for.

        Args:
            content: The file.

        Returns:
            The bytes to be packed, and their extension; '' where they are those of the file.

        Raises:
            BrokenImageError: It cannot be decoded.
            UnsupportedImageError: It would have to be encoded, and would lose bits or channels.
        """
        try:
            pixels = decode_image(content)
        except UnsupportedImageError:
            if self.changes:
                raise
            return content, ''  # a sound image, whose reading is a matter of the training
        height, width = pixels.shape[:2]
        too_large = self.short_side is not None and min(height, width) > self.short_side
        if not (self.reencode or too_large):
            return content, ''
        image = Image.fromarray(pixels[..., ::-1].copy())
        if self.short_side is not None and too_large:
            scale = self.short_side / min(height, width)
            size = max(1, round(width * scale)), max(1, round(height * scale))
            image = image.resize(size, Image.Resampling.BICUBIC)
        file = BytesIO()
        image.save(file, 'JPEG', quality=self.quality, exif=_exif(content))
        return file.getvalue(), 'jpg'


def sniff(content: bytes) -> str:
    """Tell the extension of an image by its first bytes.

    Raises:
        UnsupportedImageError: They are not known.
    """
    for start, ending in SIGNATURES.items():
        if content.startswith(start):
            return ending
    raise UnsupportedImageError('its name has no known ending, and its first bytes tell none')


def _exif(content: bytes) -> bytes:
    """EXIF data, which hold the orientation."""
    try:
        with Image.open(BytesIO(content)) as image:
            return image.info.get('exif', b'')
    except Exception:  # Pillow does not know all that OpenCV does
        return b''
