# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Learning rates that fall with the depth of a layer."""

from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from ibot_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """Layer-wise learning rate decay for any model with a ``backbone``, as published.

    A parameter of depth d learns at ``lr * layer_decay_rate ** (depths - 1 - d)``: the
    embedding slowest, what follows the backbone's layers at the full rate. Biases and parameters
    of one dimension have no weight decay. There is one group for each depth, with and without
    decay, where mm's constructors make one of each parameter: two dozen groups let the optimizer
    update many parameters by one kernel. The deepest comes first, so that the ``lr`` in the log,
    which is that of the first group, is the full rate. Frozen parameters are left out.

    ``optim_wrapper=dict(constructor='ibot_mm.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65), optimizer=...)``

    Args:
        optim_wrapper_cfg (dict): As in every mm constructor; the optimizer needs ``lr``.
        paramwise_cfg (dict): ``layer_decay_rate``, over 0 and up to 1; and where parameters of
            more dimensions have no weight decay either, the last parts of their names as
            ``undecayed``, such as ``('cls_token', 'pos_embed')`` of the published fine-tuning.

    Raises:
        ValueError: If ``paramwise_cfg`` is of another form, or the optimizer has no ``lr``.
    """

    def _validate_cfg(self) -> None:
        rate = self.paramwise_cfg.get('layer_decay_rate')
        unknown = set(self.paramwise_cfg) - {'layer_decay_rate', 'undecayed'}
        if rate is None or unknown or not 0 < rate <= 1:
            raise ValueError(
                'LayerDecayConstructor needs paramwise_cfg=dict(layer_decay_rate=...) with a rate '
                'over 0 and up to 1, and nothing else but undecayed=(names without weight decay); '
                f'got {self.paramwise_cfg}.'
            )
        if self.base_lr is None:
            raise ValueError(
                'LayerDecayConstructor needs the learning rate: optimizer=dict(lr=...).'
            )

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: Any) -> None:
        """Append the groups of ``module``, the whole model, to ``params``.

        Raises:
            ValueError: If the model has no ``backbone`` with ``get_layer_depth``.
        """
        backbone: Any = getattr(module, 'backbone', None)
        if not hasattr(backbone, 'get_layer_depth'):
            raise ValueError(
                f'Layer-wise learning rate decay of {type(module).__name__} needs a backbone with '
                f'get_layer_depth, got {type(backbone).__name__}: use a ViT of ibot_mm or '
                'mmpretrain, or another constructor.'
            )
        undecayed = {'bias', *self.paramwise_cfg.get('undecayed', ())}
        groups: dict[tuple[int, bool], dict] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            depth, num_depths = backbone.get_layer_depth(name, 'backbone.')
            decayed = parameter.ndim > 1 and name.rpartition('.')[2] not in undecayed
            if (depth, decayed) not in groups:
                scale = self.paramwise_cfg['layer_decay_rate'] ** (num_depths - 1 - depth)
                group = dict(params=[], lr=self.base_lr * scale)
                groups[depth, decayed] = group if decayed else dict(group, weight_decay=0.0)
            groups[depth, decayed]['params'].append(parameter)
        params.extend(groups[key] for key in sorted(groups, reverse=True))
        rates = ', '.join(
            f'{depth}: {groups[depth, d]["lr"]:.3g}' for depth, d in sorted(groups) if d
        )
        print_log(f'Learning rate of each depth of {type(backbone).__name__}: {rates}', 'current')
