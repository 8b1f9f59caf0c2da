# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Closed-form parameter scheduler."""

from typing import Any

from mmengine.optim.scheduler import _ParamScheduler
from mmengine.optim.scheduler.param_scheduler import INF, OptimizerType

from ibot_mm.functional.ranges import check_ranges
from ibot_mm.functional.schedules import warmup_cosine
from ibot_mm.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class WarmupCosine(_ParamScheduler):
    """Linear warm-up from 0, then a cosine, of learning rate or weight decay.

    Each value is computed from the step alone. Chained mm schedulers multiply what they find,
    so that a warm-up of one iteration would leave the rate near 0 for good.

    Args:
        optimizer: Optimizer or its wrapper.
        param_name (str): Key of the parameter groups, 'lr' or 'weight_decay'.
        final (float, optional): Value at the end, for every group. Defaults to None.
        final_ratio (float, optional): Value at the end over the start value of each group: a
            group that starts at 0, such as one without decay, stays there. Defaults to None.
        warmup (int): Length of the warm-up, in epochs where ``by_epoch``. Defaults to 0.
        begin (int): First step. Defaults to 0.
        end (int): Step after the last; the Runner fills in the training's length.
        by_epoch (bool): Whether ``warmup``, ``begin`` and ``end`` count epochs. With
            ``convert_to_iter_based=True`` they do and values still change each iteration.
            Defaults to True.
        **kwargs: As mmengine's ``_ParamScheduler``.

    Raises:
        ValueError: If not exactly one of ``final`` and ``final_ratio`` is given, one is negative,
            or the training is not longer than the warm-up.
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
        **kwargs: Any,
    ) -> None:
        if (final is None) == (final_ratio is None):
            raise ValueError('WarmupCosine needs either `final` or `final_ratio`.')
        finals = dict(final=final, final_ratio=final_ratio)
        check_ranges(type(self).__name__, {'[0, inf)': finals})
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
