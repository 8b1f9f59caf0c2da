# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
from mmcv.transforms import BaseTransform

from ibot_mm.functional.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from ibot_mm.functional.ranges import check_ranges
from ibot_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Corrupt(BaseTransform):
    """Corrupts an image as ImageNet-C does.

    An image is corrupted the same way each time it is read: random numbers follow from the seed and
    its place in the data set. See :func:`~ibot_mm.functional.corruptions.corrupt`.

    Required and modified key: ``img`` (uint8, HWC, BGR). Required key: ``sample_idx``, which mm's
    data sets set.

    Args:
        corruption (str): Of the 19, such as 'fog'.
        severity (int): 1 to 5. Defaults to 1.
        seed (int): Defaults to 0.
        jpeg_quality (int, optional): Of a last compression; ImageNet-C has 85. Defaults to None,
            none.

    Raises:
        ValueError: If an option is out of range.
    """

    def __init__(
        self, corruption: str, severity: int = 1, seed: int = 0, jpeg_quality: int | None = None
    ) -> None:
        if corruption not in CORRUPTIONS:
            raise ValueError(
                f'Corrupt: unknown corruption {corruption!r}: choose from {", ".join(CORRUPTIONS)}'
            )
        ranges: dict[str, dict[str, int | None]] = {
            f'int [1, {SEVERITIES[-1]}]': dict(severity=severity),
            'int [0, inf)': dict(seed=seed),
            'int [1, 100]': dict(jpeg_quality=jpeg_quality),
        }
        check_ranges('Corrupt', ranges)
        self.corruption = corruption
        self.severity = severity
        self.seed = seed
        self.jpeg_quality = jpeg_quality

    def transform(self, results: dict) -> dict:
        """Corrupt one image."""
        image = np.ascontiguousarray(results['img'][..., ::-1])
        number = int(results['sample_idx'])
        corrupted = corrupt(
            image, self.corruption, self.severity, self.seed, number, self.jpeg_quality
        )
        results['img'] = np.ascontiguousarray(corrupted[..., ::-1])
        return results

    def __repr__(self) -> str:
        """Name the settings."""
        return (
            f'Corrupt({self.corruption}, severity={self.severity}, seed={self.seed}, '
            f'jpeg_quality={self.jpeg_quality})'
        )
