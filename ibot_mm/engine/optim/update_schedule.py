# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A schedule that counts updates of the weights where gradients are accumulated."""

from typing import Any

from ibot_mm.functional.schedules import warmup_cosine
from ibot_mm.registry import PARAM_SCHEDULERS

from .schedulers import WarmupCosine


@PARAM_SCHEDULERS.register_module()
class WarmupCosineByUpdate(WarmupCosine):
    """:class:`WarmupCosine` whose value is the same for all iterations of one update.

    Under accumulation a schedule by iterations is half an update late, on average. As published
    for fine-tuning ViT-L, the iteration i belongs to update ``i // accumulative_counts``.

    Args:
        *args: As :class:`WarmupCosine`.
        accumulative_counts (int): That of the optimizer wrapper. Defaults to 1.
        **kwargs: As :class:`WarmupCosine`.

    Raises:
        ValueError: If ``accumulative_counts`` is below 1, or as :class:`WarmupCosine`.
    """

    def __init__(self, *args: Any, accumulative_counts: int = 1, **kwargs: Any) -> None:
        if accumulative_counts < 1:
            raise ValueError(f'accumulative_counts must be at least 1, got {accumulative_counts}.')
        self.accumulative_counts = accumulative_counts
        super().__init__(*args, **kwargs)

    def _get_value(self) -> list[float]:
        step, length, warmup = (
            number // self.accumulative_counts
            for number in (self.last_step, self.end - self.begin, self.warmup)
        )
        return [
            warmup_cosine(
                base,
                base * self.final_ratio if self.final is None else self.final,
                step,
                length,
                warmup,
            )
            for base in self.base_values
        ]
