# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_dist_info, get_world_size
from torch.utils.data import BatchSampler, Sampler

from ibot_mm.datasets.presentation import Presentation, set_presentation
from ibot_mm.registry import DATA_SAMPLERS


@dataclass(frozen=True)
class SeededBatch:
    """Indices of a batch that seed the generators as they are gone through.

    It travels to whichever process reads the batch, where the data loader asks the data set for one
    index after the other. So everything drawn on the way, by data sets within data sets too, is a
    function of the presentation.
    """

    indices: list[int]
    presentations: list[Presentation]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        try:
            for index, presentation in zip(self.indices, self.presentations):
                set_presentation(presentation)
                yield index
        finally:
            set_presentation(None)


@DATA_SAMPLERS.register_module()
class SeededBatchSampler(BatchSampler):
    """Makes every draw of the data a function of the seed and the presentation.

    Presentations are numbered in the sampler's order, over all processes. So draws are distinct and
    can be repeated, with any number of workers, with ``RepeatDataset``, ``ConcatDataset`` and other
    wrappers, with repeated augmentation, with samplers without end, in every kind of loop; as many
    images a step of more processes are the same images, drawn alike. :class:`TrainingSeedHook`
    tells seed and epoch; without it the seed is that of the sampler.

    ``train_dataloader=dict(batch_size=..., sampler=..., batch_sampler=dict(
    type='ibot_mm.SeededBatchSampler', drop_last=True))``. As with every batch sampler,
    ``drop_last`` stands here and not in the data loader.

    Args:
        sampler: Gives indices; the Runner fills it in.
        batch_size: Of each process; the Runner fills it in.
        drop_last: Leave out a last batch that is not full. Defaults to False.

    Raises:
        ValueError: If ``batch_size`` is not a positive integer.
    """

    sampler: Sampler[int]

    def __init__(self, sampler: Sampler[int], batch_size: int, drop_last: bool = False) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.seed = int(getattr(sampler, 'seed', None) or 0)
        self._round = 0
        self._skip = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0, of this and the sampler, before each is iterated."""
        self._round = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def skip(self, num_batches: int) -> None:
        """Leave out the first batches of the next round, without reading anything.

        A training that is resumed after ``num_batches`` of an epoch, or of a sampler without end,
        goes on with the batches, and the draws, of the uninterrupted one.

        Args:
            num_batches: Of this process.

        Raises:
            ValueError: If it is negative.
        """
        if num_batches < 0:
            raise ValueError(f'num_batches of SeededBatchSampler.skip is {num_batches}; 0 or more')
        self._skip = num_batches

    @property
    def presentations_per_epoch(self) -> int:
        """Presentations of all processes in one pass through the data."""
        length = len(self.sampler)  # type: ignore[arg-type]
        # The length of a sampler without end is that of the data set.
        return length if self._endless else length * get_world_size()

    @property
    def batches_per_epoch(self) -> float:
        """Batches of one pass; a sampler without end begins the next within a batch."""
        if self._endless:
            return self.presentations_per_epoch / (self.batch_size * get_world_size())
        return len(self)

    @property
    def _endless(self) -> bool:
        return isinstance(self.sampler, InfiniteSampler)

    def __iter__(self) -> Iterator[SeededBatch]:  # type: ignore[override]
        rank, num_processes = get_dist_info()
        this_round = int(getattr(self.sampler, 'epoch', self._round))
        self._round += 1
        skip, self._skip = self._skip * self.batch_size, 0
        length = self.presentations_per_epoch
        numbered = islice(enumerate(self.sampler), skip, None)
        while batch := list(islice(numbered, self.batch_size)):
            if self.drop_last and len(batch) < self.batch_size:
                return
            positions = [number * num_processes + rank for number, _ in batch]
            yield SeededBatch(
                [index for _, index in batch],
                [
                    Presentation(self.seed, this_round, position, this_round + position / length)
                    for position in positions
                ],
            )
