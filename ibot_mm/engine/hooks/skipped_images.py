# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Account of images that could not be read."""

from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.registry import HOOKS

COUNT = 'train/skipped_images'
TOTAL, REPORTED = 'skipped_images', 'reported_skipped_images'  # of all runs, in checkpoints
FILE = 'skipped_images.txt'


@HOOKS.register_module()
class SkippedImagesHook(Hook):
    """Counts the images that ``LoadImage(on_error='skip')`` skips, and stops at too many.

    Processes put together what each has skipped every ``interval`` iterations and after each epoch.
    The log then has the number of the whole training, ``skipped_images``, the share of each
    process, and the names of what other processes skipped (their own warnings do not reach the
    log). ``skipped_images.txt`` in the work directory has each file once, with the reason.

    Args:
        max_share (float): Of the images read in this run, by all processes, those that may be
            skipped. 1 goes on in any case. Defaults to 0.1.
        interval (int): Iterations between reports, at which processes wait for each other.
            Defaults to 500.

    Raises:
        ValueError: If ``max_share`` is outside [0, 1] or ``interval`` below 1.
        RuntimeError: On all processes, if a larger share was skipped. Names the file.
    """

    priority = 'NORMAL'

    def __init__(self, max_share: float = 0.1, interval: int = 500) -> None:
        if not 0 <= max_share <= 1:
            raise ValueError(f'max_share of SkippedImagesHook is {max_share}; from 0 to 1')
        if interval < 1:
            raise ValueError(f'interval of SkippedImagesHook is {interval}; 1 or more')
        self.max_share = max_share
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Start counting; a resumed training goes on with the number in its checkpoint."""
        self._before = int(runner.message_hub.get_info(TOTAL, 0))
        self._reported = int(runner.message_hub.get_info(REPORTED, 0))
        self._num_read = 0  # of this run and process, as the number of each process is
        self._num_skipped: list[int] = []
        self._new: list[tuple[str, str]] = []
        self._file = Path(runner.work_dir) / FILE
        lines = self._file.read_text().splitlines() if self._file.is_file() else []
        self._named = {line.partition('\t')[0] for line in lines}

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Note what was skipped for this batch."""
        samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
        for sample in samples or []:
            skipped = list(getattr(sample, 'skipped_images', []))
            self._num_read += 1 + len(skipped)
            self._new += skipped
        if self.every_n_train_iters(runner, self.interval):
            self._report(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Report the rest."""
        self._report(runner)

    def prepare_checkpoint(self, runner: Runner) -> None:
        """Hand over what was not reported yet, so that a stop between reports loses no name."""
        self._gather(runner)

    def _gather(self, runner: Runner) -> tuple[int, int]:
        """Name what is new; returns the images skipped and read in this run, of all processes."""
        gathered = all_gather_object((self._num_read, self._new))
        self._new = []
        self._num_skipped = [
            old + len(new)
            for old, (_, new) in zip(self._num_skipped or [0] * len(gathered), gathered)
        ]
        total = sum(self._num_skipped)
        if any(new for _, new in gathered):
            runner.message_hub.update_info(TOTAL, self._before + total)
            if is_main_process():
                self._name(runner, [new for _, new in gathered])
        return total, sum(number for number, _ in gathered)

    def _report(self, runner: Runner) -> None:
        total, num_read = self._gather(runner)
        if self._before + total == self._reported:
            return
        self._reported = self._before + total
        runner.message_hub.update_info(REPORTED, self._reported)
        runner.message_hub.update_scalar(COUNT, self._reported)
        shares = ', '.join(f'{n} by process {i}' for i, n in enumerate(self._num_skipped))
        runner.logger.warning(
            f'{total} of {num_read} images could not be read in this run and were skipped '
            f'({shares}); {self._file} names them.'
        )
        if total > self.max_share * num_read:
            raise RuntimeError(
                f'{total} of {num_read} images could not be read, more than the share of '
                f'{self.max_share:g} that SkippedImagesHook(max_share=...) allows. They are listed '
                f'in {self._file}: repair or remove them, or raise max_share.'
            )

    def _name(self, runner: Runner, of_processes: list[list[tuple[str, str]]]) -> None:
        """Name what other processes skipped in the log, and all in the file."""
        lines = ''
        for rank, skipped in enumerate(of_processes):
            for path, reason in skipped:
                if rank != get_rank():
                    runner.logger.warning(f'Process {rank} skipped {path} ({reason}).')
                if path not in self._named:
                    self._named.add(path)
                    lines += f'{path}\t{" ".join(reason.split())}\n'
        with self._file.open('a') as file:
            file.write(lines)
