# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Repeated augmentation as DeiT has it."""

from collections.abc import Sized
from typing import Any

from mmpretrain.datasets.samplers import RepeatAugSampler

from ibot_mm.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class RepeatedAugmentationSampler(RepeatAugSampler):
    """mmpretrain's ``RepeatAugSampler`` with the published length of an epoch.

    Every image comes three times in a row, shuffled by epoch, dealt round-robin to the processes;
    each takes ``N // 256 * 256 // processes`` of N images, where the base class takes all N. So an
    epoch sees about a third of the images.

    Args:
        dataset (Sized): Data set of N samples.
        round_to (int): What an epoch's length is rounded down to. Defaults to 256, as published.
        **kwargs: ``shuffle``, ``num_repeats`` (3) and ``seed`` of the base class.

    Raises:
        ValueError: If there are fewer samples than ``round_to``.
    """

    def __init__(self, dataset: Sized, round_to: int = 256, **kwargs: Any) -> None:
        super().__init__(dataset, **kwargs)
        if len(dataset) < round_to:
            raise ValueError(
                f'An epoch of repeated augmentation is rounded down to a multiple of {round_to}, '
                f'but there are {len(dataset)} images: lower sampler.round_to, or use '
                "sampler=dict(type='DefaultSampler', shuffle=True)."
            )
        self.num_selected_samples = len(dataset) // round_to * round_to // self.world_size
