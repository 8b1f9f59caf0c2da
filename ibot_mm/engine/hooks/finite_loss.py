# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Stop at the first loss that is not finite."""

import math

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Ends the training at the iteration whose loss is not finite, before anything is saved.

    It runs ahead of the checkpoint hook, so that the last checkpoint on disk is a good one.

    Raises:
        FloatingPointError: After such an iteration, with its number, the losses and the way on.
    """

    priority = 'VERY_HIGH'

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Check this iteration's total loss."""
        if outputs is None or math.isfinite(outputs['loss'].item()):
            return
        values = ', '.join(f'{name} {value.item():g}' for name, value in outputs.items())
        last = runner.message_hub.runtime_info.get('last_ckpt', None)
        resume = (
            f'The last checkpoint, {last}, is from before it: resume there'
            if last
            else 'No checkpoint was saved yet: start again'
        )
        raise FloatingPointError(
            f'The loss is not finite at iteration {runner.iter} (epoch {runner.epoch}, batch '
            f'{batch_idx}): {values}. {resume} with a lower learning rate, a smaller '
            'clip_grad.max_norm, a longer warm-up, or bf16 / float32 instead of fp16.'
        )
