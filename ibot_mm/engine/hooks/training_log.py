# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Further lines in the log: images per second, waiting for data, peak memory, weight decay."""

from typing import Any

from mmengine.device import is_cuda_available, is_musa_available
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.functional.ranges import check_ranges
from ibot_mm.registry import HOOKS

try:
    import resource
except ModuleNotFoundError:  # Windows does not have it
    resource = None  # type: ignore[assignment]

MUCH_WAITING = 0.2


@HOOKS.register_module()
class TrainingLogHook(Hook):
    """Logs what mmengine, the losses and the other hooks do not.

    That is images per second of all processes (``img_per_s``), the share of the time that this
    process waited for data (``waiting``), both over the last iterations, and the weight decay of
    the decayed group. Where mmengine logs no ``memory``, which is that of a device, it is the peak
    of this process, in MiB, except on Windows. When waiting stays above a fifth, one warning says
    what to raise.

    Args:
        window: Number of iterations to average over. Defaults to 50.
    """

    def __init__(self, window: int = 50) -> None:
        check_ranges(type(self).__name__, {'int [1, inf)': dict(window=window)})
        self.window = window
        self._iterations = 0
        self._warned = False

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Record this iteration."""
        self._iterations += 1
        window = min(self.window, self._iterations)
        hub, loader = runner.message_hub, runner.train_dataloader
        seconds = hub.get_scalar('train/time').mean(window)
        waiting = hub.get_scalar('train/data_time').mean(window) / seconds
        # A loader with a batch sampler of its own does not tell the batch size itself.
        batch_size = loader.batch_size or loader.batch_sampler.batch_size
        hub.update_scalar('train/img_per_s', batch_size * get_world_size() / seconds)
        hub.update_scalar('train/waiting', waiting)
        if resource and not (is_cuda_available() or is_musa_available()):
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
            hub.update_scalar('train/memory', peak // 1024)
        decays = [group['weight_decay'] for group in runner.optim_wrapper.param_groups]
        hub.update_scalar('train/weight_decay', max(decays))
        # The first iteration waits for the workers to start; it must have left the window.
        if waiting > MUCH_WAITING and self._iterations > self.window and not self._warned:
            self._warned = True
            runner.logger.warning(
                f'{waiting:.0%} of the last {window} iterations was waiting for data. Raise '
                f'train_dataloader.num_workers (now {loader.num_workers}) up to the CPU cores of '
                f'each process, or prefetch_factor (now {loader.prefetch_factor}); keep '
                'persistent_workers=True; leave the augmentation to the device, that is '
                'PhotometricAugmentation(apply=False); or put the images on a faster disk.'
            )
