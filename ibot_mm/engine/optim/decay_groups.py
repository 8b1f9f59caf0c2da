# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Two parameter groups: decayed and not decayed."""

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIMIZERS
from torch import nn

from ibot_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DecayGroupsConstructor(DefaultOptimWrapperConstructor):
    """Decays everything but biases and parameters of one dimension, as published.

    mm's default constructor makes a group of each parameter; two groups let the optimizer
    update many parameters by one kernel. Parameters that need no gradient are left out.

    Raises:
        ValueError: If ``paramwise_cfg`` is given: use mm's default constructor for that.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer over ``model`` (unwrapped where distributed) and its wrapper."""
        if self.paramwise_cfg:
            raise ValueError(
                'DecayGroupsConstructor has no paramwise_cfg; drop it or use '
                "constructor='DefaultOptimWrapperConstructor'."
            )
        model = getattr(model, 'module', model)
        decayed: list[nn.Parameter] = []
        undecayed: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                no_decay = parameter.ndim <= 1 or name.endswith('.bias')
                (undecayed if no_decay else decayed).append(parameter)
        groups = [dict(params=decayed), dict(params=undecayed, weight_decay=0.0)]
        optimizer = OPTIMIZERS.build(dict(self.optimizer_cfg, params=groups))
        wrapper = dict(self.optim_wrapper_cfg)
        wrapper.setdefault('type', 'OptimWrapper')
        return OPTIM_WRAPPERS.build(wrapper, default_args=dict(optimizer=optimizer))
