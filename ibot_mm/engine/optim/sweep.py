# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""One optimizer for all classifiers of a sweep, each with its own setting."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIMIZERS as MMENGINE_OPTIMIZERS
from torch import Tensor, nn
from torch.optim import Optimizer

from ibot_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS


@OPTIMIZERS.register_module()
class SweepOptimizer(Optimizer):
    """SGD or LARS on parameters whose first dimension counts the classifiers of a sweep.

    Classifier h learns at ``lr * sweep[h]['lr']``. Where it has LARS, as published, its gradient
    with decay is multiplied by ``trust_coefficient * |weight| / |gradient|`` (1 where a norm is 0)
    before the momentum; a bias has neither decay nor that factor. mmpretrain's LARS multiplies by
    the learning rate before the momentum, and adds an epsilon to the norm.

    Args:
        params: Parameters (H, ...) or groups of them, with ``sweep``.
        lr (float): Factor of all learning rates; schedules move it. Defaults to 1.0.
        sweep (Sequence[dict], optional): ``lr``, ``weight_decay`` and ``lars`` of each of the H
            classifiers, where a group does not bring its own. Defaults to None.
        momentum (float): Defaults to 0.9.
        trust_coefficient (float): Of LARS. Defaults to 0.001.

    Raises:
        ValueError: If a parameter is not of as many classifiers as the sweep.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1.0,
        sweep: Any = None,
        momentum: float = 0.9,
        trust_coefficient: float = 0.001,
    ) -> None:
        defaults = dict(lr=lr, sweep=sweep, momentum=momentum, trust_coefficient=trust_coefficient)
        super().__init__(params, defaults)
        self._columns: dict[nn.Parameter, tuple[Tensor, Tensor, Tensor]] = {}
        for group in self.param_groups:
            for parameter in group['params']:
                if not group['sweep'] or len(parameter) != len(group['sweep']):
                    raise ValueError(
                        f'SweepOptimizer: a parameter of shape {tuple(parameter.shape)} for a '
                        f'sweep of {len(group["sweep"] or ())} classifiers. Use '
                        "constructor='ibot_mm.SweepConstructor' and head=dict("
                        "type='ibot_mm.LinearSweepHead')."
                    )

    def __setstate__(self, state: dict) -> None:
        """After loading: the sweep is the loaded one."""
        super().__setstate__(state)
        self._columns = {}

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> Any:
        """Update all classifiers."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group['params']:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: nn.Parameter, gradient: Tensor, group: dict) -> None:
        sweep, state = group['sweep'], self.state[parameter]
        if parameter not in self._columns:  # made once: to move numbers to a GPU waits for it
            self._columns[parameter] = _columns(parameter, sweep)
        rates, decays, with_lars = self._columns[parameter]
        if any(setting['weight_decay'] for setting in sweep):
            gradient = torch.addcmul(gradient, parameter, decays)
        if any(setting['lars'] for setting in sweep) and not _is_bias(parameter):
            trust = group['trust_coefficient'] * _norm(parameter) / _norm(gradient)
            usable = with_lars & trust.isfinite() & (trust > 0)
            gradient = gradient * torch.where(usable, trust, torch.ones_like(trust))
        if 'momentum' not in state:
            state['momentum'] = gradient.clone()
        else:
            state['momentum'].mul_(group['momentum']).add_(gradient)
        parameter.addcmul_(state['momentum'], rates, value=-group['lr'])


def _columns(parameter: nn.Parameter, sweep: Sequence[dict]) -> tuple[Tensor, Tensor, Tensor]:
    """Learning rate, decay and whether there is LARS, of each classifier, shape (H, 1, ...)."""
    exempt = _is_bias(parameter)
    values = [
        [setting['lr'] for setting in sweep],
        [0.0 if setting['lars'] and exempt else setting['weight_decay'] for setting in sweep],
        [float(setting['lars']) for setting in sweep],
    ]
    shape = (3, len(sweep), *[1] * (parameter.ndim - 1))
    rates, decays, with_lars = parameter.new_tensor(values).view(shape)
    return rates, decays, with_lars.bool()


def _is_bias(parameter: Tensor) -> bool:
    return parameter.ndim <= 2  # of all classifiers: (H, C)


def _norm(values: Tensor) -> Tensor:
    """Of each classifier, shape (H, 1, ...)."""
    return torch.linalg.vector_norm(values, dim=tuple(range(1, values.ndim)), keepdim=True)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class SweepConstructor(DefaultOptimWrapperConstructor):
    """Gives each classifier of the model's :class:`ibot_mm.LinearSweepHead` its setting.

    Nothing else of the model is trained: ``optim_wrapper=dict(
    constructor='ibot_mm.SweepConstructor', optimizer=dict(type='ibot_mm.SweepOptimizer'))``.

    Raises:
        ValueError: If the model has no head with a ``sweep``, or ``paramwise_cfg`` is given.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer over the head of ``model`` (unwrapped where distributed)."""
        model = getattr(model, 'module', model)
        head: Any = getattr(model, 'head', None)
        if self.paramwise_cfg or not hasattr(head, 'sweep'):
            raise ValueError(
                f'SweepConstructor has no paramwise_cfg and trains the sweep of a head such as '
                f'ibot_mm.LinearSweepHead; got {type(head).__name__} and {self.paramwise_cfg}.'
            )
        group = dict(params=list(head.parameters()), sweep=head.sweep)
        optimizer = MMENGINE_OPTIMIZERS.build(dict(self.optimizer_cfg, params=[group]))
        wrapper = dict(self.optim_wrapper_cfg)
        wrapper.setdefault('type', 'OptimWrapper')
        return OPTIM_WRAPPERS.build(wrapper, default_args=dict(optimizer=optimizer))
