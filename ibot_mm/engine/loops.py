# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""mmengine's training loops, which also go on from within an epoch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.logging import MessageHub
from mmengine.runner import EpochBasedTrainLoop as MMEngineEpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as MMEngineIterBasedTrainLoop
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from ibot_mm.registry import LOOPS

__all__ = ['EpochBasedTrainLoop', 'IterBasedTrainLoop']

VALIDATED = 'iter_of_last_validation'  # "val..." would be printed among the metrics


class SkippingBatchSampler:
    """A batch sampler that can leave out its first batches, once, without loading them.

    Everything but the iteration is that of the sampler within.

    Args:
        batch_sampler: The data loader's.
    """

    def __init__(self, batch_sampler: Any) -> None:
        self.batch_sampler = batch_sampler
        self._num_skipped = 0

    def skip(self, num_batches: int) -> None:
        """Leave out the first batches of the next iteration."""
        self._num_skipped = num_batches

    def __iter__(self) -> Iterator[Any]:
        # A generator, begun when it is first read: with workers, a loader makes two and reads one.
        num_skipped, self._num_skipped = self._num_skipped, 0
        yield from islice(iter(self.batch_sampler), num_skipped, None)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __getattr__(self, name: str) -> Any:
        if name == 'batch_sampler':  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)


def _make_skippable(loader: DataLoader) -> Any:
    """Batch sampler of a loader, with ``skip``; one that has it stays as it is.

    A loader of whole batches (``batch_size=None``) has a sampler only, which takes its place.
    """
    name = 'sampler' if loader.batch_sampler is None else 'batch_sampler'
    if isinstance(getattr(loader, name), InfiniteSampler) or not hasattr(
        getattr(loader, name), 'skip'
    ):
        # DataLoader refuses to set the attribute; its length, order and workers do not change.
        vars(loader)[name] = SkippingBatchSampler(getattr(loader, name))
    return getattr(loader, name)


@contextmanager
def _keeping_history(hub: MessageHub) -> Iterator[None]:
    """Keep out what hooks log as an epoch begins: it was logged before the checkpoint was saved."""
    kept = {name: buffer.data for name, buffer in hub.log_scalars.items()}
    yield
    for name, buffer in hub.log_scalars.items():
        if name in kept:
            buffer._log_history, buffer._count_history = kept[name]


def _validate(runner: Runner) -> None:
    runner.val_loop.run()


def _validate_if_missed(runner: Runner) -> None:
    """Catch up on a validation between the last checkpoint and the end of its run."""
    if runner.message_hub.get_info(VALIDATED) != runner.iter:
        runner.logger.info('Validating first: the checkpoint is from before its validation.')
        runner.val_loop.run()


def _run(runner: Runner, run: Callable[[], nn.Module]) -> nn.Module:
    """Run a loop and, also after an error, let hooks give back what they hold of the process."""
    try:
        return run()
    finally:
        runner.call_hook('release_signals')


@LOOPS.register_module()
class EpochBasedTrainLoop(MMEngineEpochBasedTrainLoop):
    """mmengine's loop, which goes on from any iteration, where mmengine restarts the epoch.

    Batches that were trained on are passed over in the sampler; no image of them is read.

    Args:
        *args: As mmengine's.
        **kwargs: As mmengine's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._batches = _make_skippable(self.dataloader)
        self._is_resumed = False

    @property
    def first_batch(self) -> int:
        """Batches of this epoch that are done."""
        return self._iter - self._epoch * len(self.dataloader)

    def run(self) -> nn.Module:
        """Train; after a resume, first validate where that was missed."""
        return _run(self.runner, self._train)

    def _train(self) -> nn.Module:
        self._is_resumed = self._iter > 0
        self.runner.call_hook('before_train')
        if self._is_resumed and not self.first_batch:
            self._validate_if_due(_validate_if_missed)
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._validate_if_due(_validate)
        self.runner.call_hook('after_train')
        return self.runner.model

    def _validate_if_due(self, validate: Callable[[Runner], None]) -> None:
        self._decide_current_val_interval()
        is_due = self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        if self.runner.val_loop is not None and is_due and self._epoch >= self.val_begin:
            validate(self.runner)

    def run_epoch(self) -> None:
        """Train for an epoch, or for what is left of it."""
        first, self._is_resumed = self.first_batch if self._is_resumed else 0, False
        if not first:
            super().run_epoch()
            return
        with _keeping_history(self.runner.message_hub):
            self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        if first < len(self.dataloader):
            self._batches.skip(first)
            for index, data_batch in enumerate(self.dataloader, first):
                self.run_iter(index, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@LOOPS.register_module()
class IterBasedTrainLoop(MMEngineIterBasedTrainLoop):
    """mmengine's loop, which after a resume passes over batches in any sampler, not reading them.

    With another batch size it goes on at the same number of images.

    Args:
        *args: As mmengine's.
        **kwargs: As mmengine's.
    """

    dataloader_iterator: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._batches = _make_skippable(self.dataloader)
        self.resumed_at: tuple[int, int] | None = None  # images that were seen, iterations

    def run(self) -> nn.Module:
        """Train on from the iteration that is set; as mmengine's, but for what is passed over."""
        return _run(self.runner, self._train)

    def _train(self) -> nn.Module:
        is_resumed = self._iter > 0
        with _keeping_history(self.runner.message_hub) if is_resumed else nullcontext():
            self.runner.call_hook('before_train')
            self.runner.call_hook('before_train_epoch')
        if is_resumed:
            self._validate_if_due(_validate_if_missed)
            self._skip_batches()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._validate_if_due(_validate)
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _validate_if_due(self, validate: Callable[[Runner], None]) -> None:
        self._decide_current_val_interval()
        is_due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
        if self.runner.val_loop is not None and is_due and self._iter >= self.val_begin:
            validate(self.runner)

    def _skip_batches(self) -> None:
        done = self._iter
        if self.resumed_at is not None:
            batch = self.dataloader.batch_size or self._batches.batch_size
            done = round(self.resumed_at[0] / (batch * self.runner.world_size))
        sampler = getattr(self._batches, 'sampler', self._batches)
        passes = 0
        if not isinstance(sampler, InfiniteSampler):
            passes, done = divmod(done, len(self.dataloader))
            for part in (
                sampler,
                self._batches,
            ):  # of images, not of iterations as hooks count them
                if hasattr(part, 'set_epoch'):
                    part.set_epoch(passes)
        self._batches.skip(done)
        # Begun anew: upstream's has asked the loader for its first batches already.
        self.dataloader_iterator = type(self.dataloader_iterator)(self.dataloader)
        self.dataloader_iterator._epoch = passes
