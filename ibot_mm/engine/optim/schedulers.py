# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Schedules of learning rate and weight decay as functions of progress."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.optim.scheduler import _ParamScheduler
from mmengine.optim.scheduler.param_scheduler import INF, OptimizerType
from mmengine.runner import Runner

from ibot_mm.functional.ranges import check_ranges
from ibot_mm.functional.schedules import warmup_cosine
from ibot_mm.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class WarmupCosine(_ParamScheduler):
    """Linear warm-up from 0, then a cosine, of learning rate or weight decay.

    Each value is computed from the step and the config alone: a checkpoint gives back the step,
    not the numbers of the config it was saved with. Chained mm schedulers multiply what they
    find, so that a warm-up of one iteration would leave the rate near 0 for good.

    Args:
        optimizer: Optimizer or its wrapper.
        param_name (str): Key of the parameter groups, 'lr' or 'weight_decay'.
        final (float, optional): Value at the end, for every group. Defaults to None.
        final_ratio (float, optional): Value at the end over the start value of each group: a
            group that starts at 0, such as one without decay, stays there. Defaults to None.
        warmup (int): Length of the warm-up, in epochs where ``by_epoch``. Defaults to 0.
        warmup_share (float, optional): The same as a share of the schedule, instead of ``warmup``.
            Defaults to None.
        begin (int): First step. Defaults to 0.
        end (int): Step after the last; the Runner fills in the training's length.
        by_epoch (bool): Whether ``warmup``, ``begin`` and ``end`` count epochs. With
            ``convert_to_iter_based=True`` they do and values still change each iteration.
            Defaults to True.
        **kwargs: As mmengine's ``_ParamScheduler``.

    Raises:
        ValueError: If not exactly one of ``final`` and ``final_ratio`` is given, one is negative,
            the share is outside [0, 1), or the training is not longer than the warm-up.
    """

    def __init__(
        self,
        optimizer: OptimizerType,
        param_name: str,
        final: float | None = None,
        final_ratio: float | None = None,
        warmup: int = 0,
        begin: int = 0,
        end: int = INF,
        by_epoch: bool = True,
        warmup_share: float | None = None,
        **kwargs: Any,
    ) -> None:
        if (final is None) == (final_ratio is None):
            raise ValueError('WarmupCosine needs either `final` or `final_ratio`.')
        finals = dict(final=final, final_ratio=final_ratio)
        shares = dict(warmup_share=warmup_share)
        check_ranges(type(self).__name__, {'[0, inf)': finals, '[0, 1)': shares})
        if warmup_share is not None:
            warmup = int(warmup_share * (end - begin))
        if not 0 <= warmup < end - begin:
            unit = 'epochs' if by_epoch else 'iterations'
            raise ValueError(
                f'The warm-up of {param_name}, {warmup} {unit}, does not fit a schedule of '
                f'{end - begin} {unit}: shorten the warm-up or train longer.'
            )
        self.final = final
        self.final_ratio = final_ratio
        self.warmup = warmup
        super().__init__(
            optimizer, param_name=param_name, begin=begin, end=end, by_epoch=by_epoch, **kwargs
        )

    @classmethod
    def build_iter_from_epoch(
        cls,
        *args: Any,
        epoch_length: int,
        warmup: int = 0,
        begin: int = 0,
        end: int = INF,
        by_epoch: bool = True,
        **kwargs: Any,
    ) -> 'WarmupCosine':
        """Build with lengths in epochs and values that change each iteration."""
        if epoch_length == 0:
            raise ValueError(
                'An epoch has no iteration: the training data hold fewer images than one batch. '
                'Lower train_dataloader.batch_size or add images.'
            )
        kwargs.update(
            warmup=warmup * epoch_length,
            begin=begin * epoch_length,
            end=end if end == INF else end * epoch_length,
            by_epoch=False,
        )
        return cls(*args, **kwargs)

    def _get_value(self) -> list[float]:
        finals = [
            base * self.final_ratio if self.final is None else self.final
            for base in self.base_values
        ]
        return [
            warmup_cosine(base, final, self.last_step, self.end - self.begin, self.warmup)
            for base, final in zip(self.base_values, finals)
        ]

    def state_dict(self) -> dict[str, int]:
        """Return the progress alone."""
        return dict(_global_step=self._global_step)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go to the saved step; the config's numbers stay, not those that were saved."""
        self.seek(state_dict['_global_step'])

    def seek(self, step: int) -> None:
        """Go to a step and set its value, as if all steps before had been taken.

        Args:
            step: Steps taken since the start of the training.
        """
        self._global_step = step
        self.last_step = max(min(step, self.end - 1) - self.begin, -1)
        if self.last_step < 0:
            return
        for group, value in zip(self.optimizer.param_groups, self._get_value()):
            group[self.param_name] = value
        self._last_value = [group[self.param_name] for group in self.optimizer.param_groups]


def advance_schedulers(runner: Runner, saved: Sequence[Mapping[str, Any]]) -> None:
    """Bring freshly built schedulers to the progress of their runner.

    :class:`WarmupCosine` is set. mmengine's schedulers, whose values follow from those before, take
    all their steps again, in the order of the training, which also follows the present config.
    One that follows metrics (``ReduceOnPlateauLR``) takes over its saved state instead.

    Args:
        runner: Iteration and epoch are restored; the optimizer has its numbers of step 0.
        saved: States in the checkpoint, in the order of the schedulers.
    """
    schedulers = runner.param_schedulers or []
    replayed: list[_ParamScheduler] = []
    for index, scheduler in enumerate(schedulers):
        if hasattr(scheduler, 'seek'):
            scheduler.seek(runner.epoch if scheduler.by_epoch else runner.iter)
        elif not getattr(scheduler, 'need_val_args', False):
            replayed.append(scheduler)
        elif index < len(saved):
            scheduler.load_state_dict(dict(saved[index]))
    by_epoch = [scheduler for scheduler in replayed if scheduler.by_epoch]
    by_iteration = [scheduler for scheduler in replayed if not scheduler.by_epoch]
    length = runner.iter // runner.epoch if runner.epoch else runner.iter + 1
    if by_epoch and not hasattr(runner.train_loop, 'dataloader_iterator'):
        length = len(runner.train_dataloader)
    runner.optim_wrapper.optimizer._global_step = 0  # mmengine warns of steps before it is counted
    epochs = 0
    for iteration in range(1, runner.iter + 1 if replayed else 1):
        for scheduler in by_iteration:
            scheduler.step()
        if by_epoch and iteration % length == 0 and epochs < runner.epoch:
            epochs += 1
            for scheduler in by_epoch:
                scheduler.step()
