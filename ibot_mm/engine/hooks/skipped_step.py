# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""How hooks learn that an optimizer step was skipped, without waiting for the GPU.

After each step, whoever decides announces it in ``after_train_iter`` with priority VERY_HIGH
(:class:`SkipBadStepsHook`). Whoever acts on a step reads it with priority NORMAL or lower
(:class:`TeacherUpdateHook`).
"""

from mmengine.runner import Runner
from torch import Tensor

KEY = 'skipped_step'  # in the message hub's runtime information, not in checkpoints


def announce_skipped_step(runner: Runner, skipped: Tensor) -> None:
    """Announce whether the step of this iteration was skipped.

    Args:
        runner: The runner.
        skipped: A bool tensor () on the model's device.
    """
    runner.message_hub.update_info(KEY, (runner.iter, skipped), resumed=False)


def end_announcements(runner: Runner) -> None:
    """Announce nothing from now on: no step is skipped."""
    runner.message_hub.pop_info(KEY)


def read_skipped_step(runner: Runner) -> Tensor | None:
    """Read whether the step of this iteration was skipped.

    Args:
        runner: The runner.

    Returns:
        A bool tensor () on the model's device; None if nothing skips steps.

    Raises:
        RuntimeError: If it was read before it was announced.
    """
    iteration, skipped = runner.message_hub.get_info(KEY) or (runner.iter, None)
    if iteration != runner.iter:
        raise RuntimeError(
            f'A hook acts on the step of iteration {runner.iter} before SkipBadStepsHook said '
            'whether it is skipped: give the hook a lower priority, NORMAL or below, and '
            "SkipBadStepsHook its own, 'VERY_HIGH'."
        )
    return skipped
