# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import logging
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log

from ibot_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` with clear errors, or a way on, for files that cannot be read.

    Like the published loader it ignores the EXIF orientation.

    Required keys: ``img_path``. Added keys: ``img`` (uint8, HWC, BGR), ``img_shape``,
    ``ori_shape``.

    Args:
        on_error: ``'raise'`` stops at a file that is missing or cannot be decoded. ``'skip'``
            names it in the log, leaves the reason in ``results['read_error']`` and returns None,
            upon which the data set takes another image; :class:`ImageFolder` keeps account of it
            for :class:`SkippedImagesHook`. Defaults to ``'raise'``.
        color_type: As in mmcv. Defaults to ``'color_ignore_orientation'``.
        **kwargs: As in mmcv's ``LoadImageFromFile``.

    Raises:
        ValueError: ``on_error`` is neither of the two.
    """

    def __init__(
        self,
        on_error: str = 'raise',
        color_type: str = 'color_ignore_orientation',
        **kwargs: Any,
    ) -> None:
        super().__init__(color_type=color_type, **kwargs)
        if on_error not in ('raise', 'skip'):
            raise ValueError(f"LoadImage: on_error must be 'raise' or 'skip', got {on_error!r}")
        self.on_error = on_error

    def transform(self, results: dict) -> dict | None:
        """Read one image.

        Args:
            results: With ``img_path``.

        Returns:
            The results with the image, or None where a file was skipped.

        Raises:
            RuntimeError: The file is missing or cannot be decoded, and ``on_error='raise'``.
        """
        try:
            return super().transform(results)
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
