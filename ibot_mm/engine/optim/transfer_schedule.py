# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Learning rate of DeiT's recipe, as timm schedules it."""

from typing import Any

from mmengine.optim.scheduler import _ParamScheduler
from mmengine.optim.scheduler.param_scheduler import INF, OptimizerType

from ibot_mm.functional.schedules import cosine
from ibot_mm.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class DelayedWarmupCosine(_ParamScheduler):
    """Linear warm-up, then the rest of a cosine that began with the training.

    As published for transfer, epoch e learns at the value of epoch e - 1, and the first two alike:
    timm's scheduler is stepped after an epoch with that epoch's own number. mm's ``LinearLR`` and
    ``CosineAnnealingLR`` are one epoch ahead and begin the cosine after the warm-up.

    Args:
        optimizer: Optimizer or its wrapper.
        param_name (str): Defaults to 'lr'.
        warmup (int): Epochs of the warm-up. Defaults to 5.
        start (float): Value at the start of the warm-up. Defaults to 1e-6.
        final (float): Value that the cosine ends at. Defaults to 1e-5.
        begin (int): First epoch. Defaults to 0.
        end (int): Epoch after the last; the Runner fills in the training's length.
        **kwargs: As mmengine's ``_ParamScheduler``.

    Raises:
        ValueError: If the training is not longer than the warm-up.
    """

    def __init__(
        self,
        optimizer: OptimizerType,
        param_name: str = 'lr',
        warmup: int = 5,
        start: float = 1e-6,
        final: float = 1e-5,
        begin: int = 0,
        end: int = INF,
        **kwargs: Any,
    ) -> None:
        if not 0 <= warmup < end - begin:
            raise ValueError(
                f'The warm-up of {param_name}, {warmup} epochs, does not fit a schedule of '
                f'{end - begin} epochs: shorten the warm-up or train longer.'
            )
        self.warmup = warmup
        self.start = start
        self.final = final
        super().__init__(optimizer, param_name=param_name, begin=begin, end=end, **kwargs)

    def _get_value(self) -> list[float]:
        epoch = max(self.last_step - 1, 0)
        if epoch < self.warmup:
            return [
                self.start + (peak - self.start) * epoch / self.warmup for peak in self.base_values
            ]
        return [cosine(peak, self.final, epoch, self.end - self.begin) for peak in self.base_values]
