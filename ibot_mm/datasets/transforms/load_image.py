# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import logging
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log
from torch.utils.data import get_worker_info

from ibot_mm.registry import TRANSFORMS

from .shared_integers import SharedIntegers

MAX_WORKERS = 256


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` with clear errors, or a count, for files that cannot be read.

    Like the published loader it ignores the EXIF orientation.

    Required keys: ``img_path``. Added keys: ``img`` (uint8, HWC, BGR), ``img_shape``,
    ``ori_shape``.

    Args:
        on_error: ``'raise'`` stops at a file that is missing or cannot be decoded. ``'skip'``
            names it in the log, counts it in :attr:`skipped` and returns None, upon which mmengine
            fetches another image. Defaults to ``'raise'``.
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
        self._skipped = SharedIntegers(MAX_WORKERS)  # one each, so that none is lost

    @property
    def skipped(self) -> int:
        """How often a file was skipped so far, over all workers of this process."""
        return self._skipped.sum()

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
            problem = f'cannot read image {results["img_path"]} ({type(error).__name__}: {error})'
            if self.on_error == 'raise':
                raise RuntimeError(
                    f'{problem}. Repair or remove the file (and its line in the annotation file), '
                    "or set LoadImage(on_error='skip') to count such files and go on without them"
                ) from error
        worker = get_worker_info()
        slot = 0 if worker is None else worker.id % MAX_WORKERS
        self._skipped[slot] = self._skipped[slot] + 1
        print_log(f'LoadImage: skipped, {problem}', logger='current', level=logging.WARNING)
        return None
