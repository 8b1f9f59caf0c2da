# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Warn of a training that is not healthy, stop it, or roll it back."""

from collections.abc import Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.engine.alarms import ALARMS, NOT_FINITE, History, RollBack, TrainingAlarm
from ibot_mm.engine.hooks.monitor import MonitorHook
from ibot_mm.engine.hooks.uniform_targets import UniformTargetsHook
from ibot_mm.functional.ranges import check_ranges
from ibot_mm.registry import HOOKS

ACTIONS = ('ignore', 'warn', 'end', 'stop', 'roll_back')
STATE = 'alarms'  # in a checkpoint
NORM = 'train/grad_norm'
LAST_SHARE = 0.01  # of the training, in which the teacher's momentum reaches 1 by its schedule


@HOOKS.register_module()
class AlarmHook(Hook):
    """Judges each measurement of :class:`MonitorHook`, which it needs.

    ==================== =======================================================================
    ``uniform``          [CLS] or patch targets have 95 % of ln K or more: loss at ln K
    ``one_prototype``    [CLS] or patch targets share fewer than 1.5 prototypes
    ``entropy_gone``     targets have less than 0.5 % of ln K
    ``rank_falling``     an effective rank is below a quarter of its highest
    ``teacher_frozen``   not one weight of the teacher changed between two measurements
    ``gradient_growing`` the gradient's median norm is ten times its usual
    ``not_finite``       a loss is not finite, as found by :class:`FiniteLossHook`
    ==================== =======================================================================

    An alarm sounds at the third such measurement in a row, once until it is over. The first tenth
    of a training counts for ``teacher_frozen`` and ``gradient_growing`` alone. It then does one of:

    - ``'warn'``: a line in the log, with what to change;
    - ``'end'``: the training is finished with this epoch, and saved;
    - ``'stop'``: raise :class:`~ibot_mm.engine.alarms.TrainingAlarm`;
    - ``'roll_back'``: ``tools/train.py`` goes on from the last checkpoint that is older than
      the first bad measurement, with another seed and the learning rate times ``rate_factor``,
      see :mod:`ibot_mm.engine.roll_back`;
    - ``'ignore'``.

    Args:
        action (str): Of all alarms. Defaults to 'warn'; a loss that is not finite then stops.
        actions (dict): Of some alarms, by name. Defaults to none.
        patience (int): Bad measurements in a row. Defaults to 3.
        grace_share (float): Share of the training that counts for two alarms only.
            Defaults to 0.1.
        max_roll_backs (int): After which 'roll_back' stops. Defaults to 2.
        rate_factor (float): Of the learning rate, for each. Defaults to 0.5.

    Raises:
        ValueError: If an alarm or action is unknown or a number out of range.
    """

    priority = 'BELOW_NORMAL'  # after MonitorHook

    def __init__(
        self,
        action: str = 'warn',
        actions: Mapping[str, str] = {},
        patience: int = 3,
        grace_share: float = 0.1,
        max_roll_backs: int = 2,
        rate_factor: float = 0.5,
    ) -> None:
        names = (*ALARMS, NOT_FINITE)
        for name, of_name in {'uniform': action, **actions}.items():
            if name not in names or of_name not in ACTIONS:
                raise ValueError(
                    f'AlarmHook: {name}={of_name!r} is not known; alarms are {", ".join(names)}, '
                    f'actions {", ".join(ACTIONS)}.'
                )
        check_ranges(
            type(self).__name__,
            {
                'int [1, inf)': dict(patience=patience),
                'int [0, inf)': dict(max_roll_backs=max_roll_backs),
                '[0, 1]': dict(grace_share=grace_share),
                '(0, 1]': dict(rate_factor=rate_factor),
            },
        )
        self.actions = {name: action for name in names} | dict(actions)
        self.patience = patience
        self.grace_share = grace_share
        self.max_roll_backs = max_roll_backs
        self.rate_factor = rate_factor
        self._history = History()
        self._bad: dict[str, list[int]] = {}  # iterations of bad measurements in a row

    def before_train(self, runner: Runner) -> None:
        """Find the monitor.

        Raises:
            ValueError: If there is none.
        """
        monitors = [hook for hook in runner.hooks if isinstance(hook, MonitorHook)]
        if not monitors:
            raise ValueError(
                "AlarmHook judges what MonitorHook measures: add default_hooks.monitor=dict(type='"
                "ibot_mm.MonitorHook'), or switch off default_hooks.alarm=None."
            )
        self._monitor = monitors[0]
        if any(isinstance(hook, UniformTargetsHook) for hook in runner.hooks):
            if self.actions['uniform'] == 'warn':
                self.actions['uniform'] = 'ignore'  # that hook warns

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Judge, in the main process, and act, in all."""
        if not self._monitor.is_time(runner):
            return
        runner.call_hook('hand_over')  # the gradient's norms
        found: list[list[tuple[str, int, str]]] = [[]]
        if is_main_process() and self._monitor.values:
            found = [self._judge(runner, self._monitor.values | self._norm(runner))]
        broadcast_object_list(found)
        for name, since, message in found[0]:
            self._act(runner, name, since, message)

    def _norm(self, runner: Runner) -> dict[str, float]:
        scalars = runner.message_hub.log_scalars
        if NORM not in scalars:
            return {}
        norms = scalars[NORM].data[0][-self._monitor.interval :]
        return dict(grad_norm=float(median(norms)))

    def _judge(self, runner: Runner, values: dict[str, float]) -> list[tuple[str, int, str]]:
        done = (runner.iter + 1) / runner.max_iters
        found = []
        for name, judge in ALARMS.items():
            is_counted = done > self.grace_share or name in ('teacher_frozen', 'gradient_growing')
            is_counted &= name != 'teacher_frozen' or done <= 1 - LAST_SHARE
            message = judge(values, self._history) if is_counted else None
            if message is None:
                self._bad.pop(name, None)
                continue
            bad = self._bad.setdefault(name, [])
            bad.append(runner.iter + 1)
            if len(bad) == self.patience:
                found.append((name, bad[0], message))
        if 'gradient_growing' not in self._bad:  # else what grows becomes the usual
            self._history.add(values)
        return found

    def _act(self, runner: Runner, name: str, since: int, message: str) -> None:
        action = self.actions[name]
        text = f'Alarm {name!r} at iteration {runner.iter + 1}, bad since {since}: {message}.'
        if action == 'warn':
            runner.logger.warning(f'{text} See docs/health.md.')
        elif action == 'end':
            runner.logger.warning(f'{text} The training ends with this epoch.')
            runner.train_loop.stop_training = True
        elif action != 'ignore':
            kind = RollBack if action == 'roll_back' else TrainingAlarm
            raise kind(name, runner.iter + 1, since, text)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store what is remembered."""
        checkpoint[STATE] = asdict(self._history) | dict(
            bad={name: list(steps) for name, steps in self._bad.items()}
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Go on with it."""
        state = dict(checkpoint.get(STATE) or {})
        self._bad = {name: list(steps) for name, steps in state.pop('bad', {}).items()}
        self._history = History(**state)
