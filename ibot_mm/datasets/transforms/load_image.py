# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import logging
from collections.abc import Sequence
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log

from ibot_mm.datasets.store_error import StoreError
from ibot_mm.registry import TRANSFORMS

from .decode_image import decode_image, reduction_of
from .image_errors import UnsupportedImageError
from .pixel_range import Pair, PixelRange
from .read_channels import read_channels
from .read_content import read_content

IGNORE_ORIENTATION = 'color_ignore_orientation'


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile``, which says what it cannot read.

    Files that are missing or broken are errors, or skipped. Sound images that would lose something
    are always errors, which name the option that says what shall become of it: more than 8 bits or
    floats (``in_range``, ``in_percentiles``), a fourth channel (``extra_channels``). Like the
    published loader it ignores the EXIF orientation; ``color_type='color'`` turns by it.

    With ``channels`` it reads other images than RGB: any number of channels, TIFF, ``.npy`` and
    DICOM too, in the file's order, see docs/sensors.md. Values are 0 to 255 in any case.

    Required keys: ``img_path``, and ``img_file`` where a store holds the image. Added keys:
    ``img`` (uint8, or float32 with ``to_float32``; HWC; BGR without ``channels``), ``img_shape``,
    ``ori_shape``.

    Args:
        on_error: ``'raise'`` stops at a file that is missing or cannot be decoded. ``'skip'``
            names it in the log, leaves the reason in ``results['read_error']`` and returns None,
            upon which the data set takes another image; :class:`ImageFolder` keeps account of it
            for :class:`SkippedImagesHook`. Defaults to ``'raise'``.
        color_type: As in mmcv. Defaults to ``'color_ignore_orientation'``.
        in_range: Of images of more than 8 bits, the values (low, high) that become 0 and 255;
            others are clipped. With ``channels`` also a list, one pair for each. Defaults to None:
            such images are errors.
        in_percentiles: The same in percent of each image's own values, with ``channels`` of each
            of its channels. Defaults to None.
        min_decoded_size: Decode large JPEGs at 1/2, 1/4 or 1/8 of their height and width, as long
            as the shorter side keeps this many pixels. With :attr:`MultiCrop.min_image_size`, 518
            for the published crops, no crop is ever enlarged by it. Pixels change a little:
            ``python -m benchmarks.reduced_decoding`` measures how much. Defaults to None: every
            pixel is decoded.
        extra_channels: ``'raise'`` at channels after the third, unless they are opaque alpha,
            or ``'drop'`` them. Defaults to ``'raise'``.
        channels: Number of channels that every file must have, or a list of those to read,
            counted from 0. The order is the file's, RGB for color: set ``to_rgb=False``, of mmdet
            and mmseg ``bgr_to_rgb=False``. Defaults to None: three, BGR, made of gray as well.
        channel_axis: Axis of the channels in ``.npy`` files, -1 or 0. Defaults to -1.
        to_float32: Whether to keep the steps between 256 levels that ranges would round. Defaults
            to False.
        **kwargs: As in mmcv's ``LoadImageFromFile``.

    Raises:
        ValueError: ``on_error`` or ``extra_channels`` is neither of its two, a pair is not
            (low, high), channels are not numbers from 0 on, ``min_decoded_size`` is not positive,
            two options do not go together, or mmcv's ``ignore_empty`` is asked for, which skips
            without a word.
    """

    reads_stores = True

    def __init__(
        self,
        on_error: str = 'raise',
        color_type: str = IGNORE_ORIENTATION,
        in_range: Pair | Sequence[Pair] | None = None,
        in_percentiles: Pair | None = None,
        extra_channels: str = 'raise',
        channels: int | Sequence[int] | None = None,
        channel_axis: int = -1,
        to_float32: bool = False,
        min_decoded_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(color_type=color_type, to_float32=to_float32, **kwargs)
        if self.ignore_empty:
            raise ValueError("LoadImage: instead of ignore_empty=True set on_error='skip'")
        self.pixel_range = PixelRange(in_range, in_percentiles, extra_channels, to_float32)
        self.channels, self.channel_axis = channels, channel_axis
        self._check_channels()
        if on_error not in ('raise', 'skip'):
            raise ValueError(f"LoadImage: on_error must be 'raise' or 'skip', got {on_error!r}")
        self.on_error = on_error
        if min_decoded_size is not None:
            _check_reduced(min_decoded_size, color_type, self.imdecode_backend, channels)
        self.min_decoded_size = min_decoded_size

    def _check_channels(self) -> None:
        channels, num_pairs = self.channels, len(self.pixel_range.pairs)
        if self.channel_axis not in (-1, 0):
            raise ValueError(f'LoadImage: channel_axis must be -1 or 0, got {self.channel_axis!r}')
        if channels is None:
            if num_pairs > 1:
                raise ValueError(
                    f'LoadImage: in_range has {num_pairs} pairs, one for each channel: give '
                    f'channels={num_pairs} with them'
                )
            return
        numbers = [channels] if isinstance(channels, int) else list(channels)
        least = 1 if isinstance(channels, int) else 0
        if not numbers or any(type(number) is not int or number < least for number in numbers):
            raise ValueError(
                'LoadImage: channels must be their number, at least 1, or a list of those to read, '
                f'counted from 0, got {channels!r}'
            )
        if self.color_type != IGNORE_ORIENTATION or self.pixel_range.extra_channels != 'raise':
            raise ValueError('LoadImage: color_type and extra_channels do not go with channels')
        wanted = channels if isinstance(channels, int) else len(numbers)
        if num_pairs > 1 and num_pairs != wanted:
            raise ValueError(
                f'LoadImage: in_range has {num_pairs} pairs for {wanted} channels: give one pair '
                'for each, or one for all'
            )

    def transform(self, results: dict) -> dict | None:
        """Read one image.

        Args:
            results: With ``img_path``.

        Returns:
            The results with the image, or None where a file was skipped.

        Raises:
            UnsupportedImageError: The image would lose something as it is set.
            StoreError: The store that holds the image does not answer, or its shard is damaged.
            RuntimeError: The file is missing or cannot be decoded, and ``on_error='raise'``.
        """
        try:
            return self._load(results)
        except UnsupportedImageError as error:
            raise UnsupportedImageError(
                f'cannot read image {results["img_path"]}: {error}'
            ) from None
        except StoreError as error:
            raise StoreError(f'cannot read image {results["img_path"]}: {error}') from error
        except Exception as error:  # backends and decoders raise what they like
            reason = f'{type(error).__name__}: {error}'
            problem = f'cannot read image {results["img_path"]} ({reason})'
            if self.on_error == 'raise':
                raise RuntimeError(
                    f'{problem}. Repair or remove the file (and its line in the annotation file), '
                    "or set LoadImage(on_error='skip') to go on with another image, until "
                    'SkippedImagesHook finds too many'
                ) from error
        results['read_error'] = reason
        print_log(f'LoadImage: skipped, {problem}', logger='current', level=logging.WARNING)
        return None

    def __repr__(self) -> str:
        """List the options; caches of features depend on it."""
        ranges = self.pixel_range
        told = dict(
            channels=self.channels,
            channel_axis=self.channel_axis if self.channel_axis != -1 else None,
            in_range=ranges.in_range,
            in_percentiles=ranges.in_percentiles,
            extra_channels=ranges.extra_channels if ranges.extra_channels != 'raise' else None,
            min_decoded_size=self.min_decoded_size,
        )
        own = ''.join(f', {key}={value!r}' for key, value in told.items() if value is not None)
        of_mmcv: str = super().__repr__()
        return of_mmcv.removesuffix(')') + own + ')'

    def _load(self, results: dict) -> dict:
        content = read_content(results, self.backend_args)
        if self.channels is not None:
            pixels = read_channels(content, self.channels, self.channel_axis)
            image = self.pixel_range.scale(pixels, each_channel=True)
        else:
            reduction = 1
            if self.min_decoded_size is not None:
                reduction = results['reduction'] = reduction_of(content, self.min_decoded_size)
            image = decode_image(
                content, self.pixel_range, self.color_type, self.imdecode_backend, reduction
            )
        results['img'] = image.astype('float32') if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


def _check_reduced(
    min_size: int, color_type: str, backend: str, channels: int | Sequence[int] | None
) -> None:
    if min_size <= 0:
        raise ValueError(f'LoadImage: min_decoded_size must be positive, got {min_size}')
    if channels is not None:
        raise ValueError('LoadImage: min_decoded_size does not go with channels')
    if (color_type, backend) != (IGNORE_ORIENTATION, 'cv2'):
        raise ValueError(
            'LoadImage: min_decoded_size needs the default color_type and imdecode_backend, got '
            f'{color_type!r} and {backend!r}'
        )
