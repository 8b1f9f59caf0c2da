# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from collections.abc import Sequence
from numbers import Real

import numpy as np
from mmcv.transforms import BaseTransform

from ibot_mm.datasets.presentation import current_presentation
from ibot_mm.functional.masking import block_mask, random_mask, sample_mask_ratio
from ibot_mm.registry import TRANSFORMS

SHAPES = dict(block=block_mask, random=random_mask)


@TRANSFORMS.register_module()
class MaskGenerator(BaseTransform):
    """Draw a patch mask for every global crop.

    Required keys: ``img`` (one HWC image, or a list with the global crops first),
    ``num_global_crops`` where local crops follow.
    Added keys: ``masks``, bool (number of global crops, H / patch_size, W / patch_size).

    Args:
        patch_size: Pixels per patch; for Swin its last stride, 32. Defaults to 16.
        ratio: List of (mean, half_width) pairs. Each view picks one, and its ratio is uniform in
            mean ± half_width. Defaults to [(0.0, 0.0), (0.3, 0.2)].
        shape: ``'block'`` for rectangles, ``'random'`` for single patches. Defaults to
            ``'block'``.
        start_epoch (float): Nothing is masked before; above 0 it needs the data loader's
            ``batch_sampler=dict(type='ibot_mm.SeededBatchSampler')``, which counts passes through
            the data, in loops by iterations too. Defaults to 0.

    Raises:
        ValueError: An unknown shape, a ratio that is not a list of such pairs or leaves 0..1, a
            patch size below 1 or a negative start epoch.
    """

    def __init__(
        self,
        patch_size: int = 16,
        ratio: Sequence[tuple[float, float]] = ((0.0, 0.0), (0.3, 0.2)),
        shape: str = 'block',
        start_epoch: float = 0,
    ) -> None:
        if shape not in SHAPES:
            raise ValueError(f'MaskGenerator: shape must be one of {list(SHAPES)}, got {shape!r}')
        if patch_size < 1:
            raise ValueError(f'MaskGenerator: patch_size must be at least 1, got {patch_size}')
        if start_epoch < 0:
            raise ValueError(f'MaskGenerator: start_epoch must be 0 or more, got {start_epoch}')
        self.patch_size, self.shape, self.start_epoch = patch_size, shape, start_epoch
        self.ratio = _checked_pairs(ratio)

    def transform(self, results: dict) -> dict:
        """Draw.

        Args:
            results: With ``img``.

        Returns:
            The same dict with ``masks``.

        Raises:
            ValueError: A global crop that is not a whole number of patches; ``start_epoch`` is set
                and nothing counts epochs.
        """
        images = results['img'] if isinstance(results['img'], list) else [results['img']]
        images = images[: results.get('num_global_crops', len(images))]
        started = self._started()
        results['masks'] = np.stack([self._draw(image, started) for image in images])
        return results

    def _draw(self, image: np.ndarray, started: bool) -> np.ndarray:
        height, width = image.shape[:2]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f'MaskGenerator: a crop of {height} x {width} pixels is not a whole number of '
                f'patches of {self.patch_size}; set MultiCrop(global_crop_size=...) to a multiple '
                'of MaskGenerator(patch_size=...), which must be the patch size of the backbone'
            )
        rows, columns = height // self.patch_size, width // self.patch_size
        count = sample_mask_ratio(self.ratio) * rows * columns if started else 0.0
        return SHAPES[self.shape](rows, columns, count)

    def _started(self) -> bool:
        if self.start_epoch == 0:
            return True
        presentation = current_presentation()
        if presentation is None:
            raise ValueError(
                f'MaskGenerator(start_epoch={self.start_epoch}) does not know the epoch: give the '
                "data loader batch_sampler=dict(type='ibot_mm.SeededBatchSampler')"
            )
        return presentation.epoch >= self.start_epoch

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(patch_size={self.patch_size}, ratio={self.ratio}, '
            f'shape={self.shape!r}, start_epoch={self.start_epoch})'
        )


def _checked_pairs(ratio: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    advice = (
        'give a list of (mean, half_width) pairs, as in ratio=[(0.0, 0.0), (0.3, 0.2)]; two lists, '
        'one of means and one of half-widths, are not supported'
    )
    if not isinstance(ratio, Sequence) or isinstance(ratio, str) or not ratio:
        raise ValueError(f'MaskGenerator: ratio is {ratio!r}; {advice}')
    pairs = []
    for pair in ratio:
        if not (
            isinstance(pair, Sequence)
            and len(pair) == 2
            and all(isinstance(number, Real) for number in pair)
        ):
            raise ValueError(f'MaskGenerator: ratio holds {pair!r}; {advice}')
        mean, half_width = pair
        if not (0 <= half_width <= mean and mean + half_width <= 1):
            raise ValueError(
                f'MaskGenerator: the ratio pair (mean {mean}, half-width {half_width}) is out of '
                'range; mean - half-width and mean + half-width must lie in 0 to 1, and the '
                f'half-width must not be negative; {advice}'
            )
        pairs.append((float(mean), float(half_width)))
    return pairs
