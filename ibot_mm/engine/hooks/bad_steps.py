# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Skip steps whose gradient is not finite, count them, and stop where there are too many."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.runner import Runner
from torch import Tensor, nn

from ibot_mm.engine.checkpointing.gradients import goes_on_in_step
from ibot_mm.engine.hooks.finite_loss import FiniteLossHook
from ibot_mm.engine.hooks.skipped_step import announce_skipped_step, end_announcements
from ibot_mm.private_api import norms_of, takes_found_inf
from ibot_mm.registry import HOOKS

COUNT, NORM = 'train/skipped_steps', 'train/grad_norm'
STATE = 'skipped_steps'  # in a checkpoint


@dataclass
class _Step:
    """A step of the optimizer whose verdict was not read yet.

    Args:
        iterations: Place and losses of each iteration that it accumulates.
        bad: Whether it was skipped, a bool tensor ().
        gradients: Parameters that had one.
        finite: Whether each of them is finite, a bool tensor (number of gradients,).
    """

    iterations: list[tuple[str, dict[str, Tensor]]]
    bad: Tensor
    gradients: list[nn.Parameter]
    finite: Tensor


@HOOKS.register_module()
class SkipBadStepsHook(FiniteLossHook):
    """Takes the place of :class:`FiniteLossHook` where a bad step shall not end the training.

    A step whose gradient is not finite is skipped: the optimizer's weights, moments and step
    counts, the teacher, and the model's buffers (centers, running statistics of a batch norm) are
    left as they were before it, with gradient accumulation before the first of its iterations.
    Schedules go by the iteration and do not notice. What the gradient scaler of fp16 skips counts
    as well. A loss that is not finite gives such a gradient; should it once not do so, the training
    ends as by the base class.

    All of this happens on the device, and processes decide alike, since they share the gradient.
    With a fused optimizer (``optimizer=dict(type='AdamW', fused=True)``) nothing waits for the
    GPU; with any other, each step does. Verdicts are read together, every ``interval`` steps:
    each skipped step then is a warning in the log, and ``skipped_steps`` there is their number.

    Args:
        max_in_a_row (int): Skipped steps in a row that end the training. The gradient scaler may
            need a dozen to find its scale. Defaults to 20.
        max_in_all (int): Skipped steps of the whole training that end it. Defaults to 1000.
        interval (int): Steps between readings. Defaults to 50.

    Raises:
        ValueError: If a limit is below 1.
        FloatingPointError: At a limit. Names the last such step, its losses, which gradients
            were not finite, and the norms before it.
    """

    priority = 'VERY_HIGH'  # before whoever acts on a step

    def __init__(self, max_in_a_row: int = 20, max_in_all: int = 1000, interval: int = 50) -> None:
        super().__init__(interval)
        if min(max_in_a_row, max_in_all) < 1:
            raise ValueError(
                'max_in_a_row and max_in_all of SkipBadStepsHook must be at least 1, got '
                f'{max_in_a_row} and {max_in_all}; to stop at once take FiniteLossHook.'
            )
        self.max_in_a_row = max_in_a_row
        self.max_in_all = max_in_all
        self._in_a_row = self._in_all = 0
        self._iterations: list[tuple[str, dict[str, Tensor]]] = []  # since the last step
        self._buffers: dict[str, tuple[Tensor, Tensor]] = {}  # each with its values at that time
        self._state: dict[str, Any] | None = None  # of a checkpoint
        self._verdict: tuple[Tensor, list[nn.Parameter], Tensor] | None = None
        self._steps: list[_Step] = []

    def before_train(self, runner: Runner) -> None:
        """Attach to the optimizer; a resumed training goes on counting."""
        optimizer = runner.optim_wrapper.optimizer
        self._handle = optimizer.register_step_pre_hook(self._before_step)
        if COUNT in runner.message_hub.log_scalars:
            self._in_all = int(runner.message_hub.get_scalar(COUNT).current())
        else:
            runner.message_hub.update_scalar(COUNT, 0)
        state, self._state = self._state, None
        if state is None or runner.iter == 0:
            return
        self._in_a_row = state['in_a_row']
        if goes_on_in_step(runner, state['meta']):
            named = dict(_named_buffers(runner))
            self._buffers = {
                name: (named[name], kept.to(named[name].device))
                for name, kept in state['buffers'].items()
            }

    def after_train(self, runner: Runner) -> None:
        """Detach from it."""
        self._handle.remove()
        vars(runner.optim_wrapper.optimizer).pop('found_inf', None)
        end_announcements(runner)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Keep the buffers before the first forward pass of a step."""
        if not self._buffers:
            self._buffers = {
                name: (buffer, buffer.clone()) for name, buffer in _named_buffers(runner)
            }

    @property
    def kept_buffers(self) -> dict[str, Tensor]:
        """What the model's buffers were before the step under way, by their names."""
        return {name: kept for name, (_, kept) in self._buffers.items()}

    def prepare_checkpoint(self, runner: Runner) -> None:
        """Count the steps that the checkpoint comes from."""
        self._read_verdicts(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the losses, and save what a step under way may have to put back."""
        super().before_save_checkpoint(runner, checkpoint)
        checkpoint[STATE] = dict(in_a_row=self._in_a_row, buffers=self.kept_buffers)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep that state for a training that is resumed."""
        if STATE in checkpoint:
            self._state = dict(checkpoint[STATE], meta=checkpoint['meta'])

    @torch.no_grad()
    def _before_step(self, optimizer: Any, *args: Any) -> None:
        """Look at the gradients; the optimizer leaves all alone where one is not finite."""
        parameters = [p for group in optimizer.param_groups for p in group['params']]
        owners = [p for p in parameters if p.grad is not None]
        gradients = [p.grad for p in owners] or [torch.zeros_like(parameters[0])]
        finite = norms_of(gradients).isfinite()
        bad = ~finite.all()
        if takes_found_inf(optimizer):
            if hasattr(optimizer, 'grad_scale'):  # within the step of a gradient scaler
                bad |= optimizer.found_inf.bool()
            optimizer.found_inf = bad.float()
        elif bad:
            for parameter in owners:
                parameter.grad = None
        self._verdict = bad, owners, finite

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Restore the buffers after a bad step, and read verdicts if it is time."""
        losses = {name: loss.detach() for name, loss in (outputs or {}).items()}
        place = f'iteration {runner.iter} (epoch {runner.epoch}, batch {batch_idx})'
        self._iterations.append((place, losses))
        if not runner.optim_wrapper.should_update():
            return
        # Without a verdict the gradient scaler, which found something, did not call the optimizer.
        yes = torch.ones_like(losses['loss'], dtype=torch.bool)
        bad, owners, finite = self._verdict or (yes, [], yes[None][:0])
        for buffer, kept in self._buffers.values():
            buffer.copy_(torch.where(bad, kept, buffer))
        announce_skipped_step(runner, bad)
        self._steps.append(_Step(self._iterations, bad, owners, finite))
        self._iterations, self._buffers, self._verdict = [], {}, None
        if len(self._steps) >= self.interval:
            self._check(runner)

    def _check(self, runner: Runner) -> None:
        self._read_verdicts(runner)
        super()._check(runner)

    def _read_verdicts(self, runner: Runner) -> None:
        steps, self._steps = self._steps, []
        verdicts = torch.stack([step.bad for step in steps]).tolist() if steps else []
        for step, bad in zip(steps, verdicts):
            if bad:
                self._count(runner, step)
            else:
                self._in_a_row = 0
                self._unread += step.iterations

    def _count(self, runner: Runner, step: _Step) -> None:
        """Warn of a skipped step, or end the training."""
        self._in_a_row += 1
        self._in_all += 1
        runner.message_hub.update_scalar(COUNT, self._in_all)
        place, losses = step.iterations[-1]
        report = f'{place}: {self._values(losses)}; {self._where(runner, step)}'
        counts = f'{self._in_a_row} in a row, {self._in_all} in all'
        if self._in_a_row < self.max_in_a_row and self._in_all < self.max_in_all:
            runner.logger.warning(f'Skipped a step, {counts}, at {report}.')
            return
        runner.call_hook('hand_over')
        scalars = runner.message_hub.log_scalars
        norms = scalars[NORM].data[0] if NORM in scalars else np.zeros(0)
        last = ', '.join(f'{norm:.3g}' for norm in norms[np.isfinite(norms)][-5:])
        raise FloatingPointError(
            f'Skipped too many steps, {counts}, the last at {report}. Last finite norms of the '
            f'gradient: {last or "not logged"}. {self._way_on(runner)}'
        )

    @staticmethod
    def _where(runner: Runner, step: _Step) -> str:
        """Which gradients were not finite."""
        bad = {id(p) for p, finite in zip(step.gradients, step.finite.tolist()) if not finite}
        names = [name for name, p in runner.model.named_parameters() if id(p) in bad]
        if not names:
            return 'found by the gradient scaler'
        nearest = names[-1].removeprefix('module.')
        total = len(step.gradients)
        return f'{len(names)} of {total} gradients are not finite, nearest to the losses {nearest}'


def _named_buffers(runner: Runner) -> Iterator[tuple[str, Tensor]]:
    """Return the model's buffers, named alike with and without a distributed wrapper."""
    for name, buffer in runner.model.named_buffers():
        yield name.removeprefix('module.'), buffer
