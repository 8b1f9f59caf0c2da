# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The projection head of a pre-training through ``init_cfg``."""

import re
from collections.abc import Mapping
from typing import Any

from mmengine.model import update_init_info
from torch import Tensor, nn

from ibot_mm.registry import WEIGHT_INITIALIZERS

from .checkpoint import Checkpoint
from .formats.published import published_to_ibot_mm
from .locate import CheckpointError

_NETWORKS = ('teacher', 'student')


def read_head(
    tensors: Mapping[str, Tensor], network: str = 'teacher', checkpoint: str = 'the checkpoint'
) -> dict[str, Tensor]:
    """The projection head among the tensors of a full checkpoint of a pre-training.

    Args:
        tensors: By their path within the file, see :meth:`Checkpoint.open`.
        network: 'teacher' or 'student'. Defaults to 'teacher'.
        checkpoint: Its name, for messages.

    Returns:
        Tensors by the names of :class:`ibot_mm.IBOTNeck`.

    Raises:
        ValueError: If ``network`` is neither of the two.
        CheckpointError: If there is no projection head.
    """
    if network not in _NETWORKS:
        raise ValueError(f'network must be one of {_NETWORKS}, got {network!r}.')
    prefix = r'(?:state_dict\.)?(?:module\.)?' + (r'teacher\.' if network == 'teacher' else '')
    ours = _below(tensors, prefix + r'neck\.')
    published = _below(tensors, rf'{network}\.(?:module\.)?(?=head\.)')
    if ours:
        return ours
    if published:
        names = published_to_ibot_mm(
            published, shared_head='head.last_layer2.weight_v' not in published
        )
        return {new.removeprefix('neck.'): published[old] for old, new in names.items()}
    rooms = ', '.join(sorted({'.'.join(name.split('.')[:2]) for name in tensors})[:6])
    raise CheckpointError(
        f'{checkpoint} has no projection head of the {network}; it holds {rooms}, ... Give the '
        'full checkpoint of a pre-training, such as work_dirs/ibot_vits16/epoch_800.pth or the '
        'published checkpoint.pth; one of the backbone alone is not enough.'
    )


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose names begin with a pattern, without what it matches."""
    found = ((re.match(prefix, name), name) for name in tensors)
    return {name[match.end() :]: tensors[name] for match, name in found if match}


@WEIGHT_INITIALIZERS.register_module()
class PretrainedHead:
    """Fills a :class:`ibot_mm.ProjectionLayers` or a neck from a full checkpoint.

    Args:
        checkpoint (str): See :meth:`Checkpoint.open`.
        network (str): 'teacher' or 'student'. Defaults to 'teacher'.
    """

    def __init__(self, checkpoint: str, network: str = 'teacher') -> None:
        self.checkpoint = checkpoint
        self.network = network

    def __call__(self, module: nn.Module) -> None:
        """Fill a module, as mmengine's ``initialize`` does it.

        Raises:
            CheckpointError: If the checkpoint has no projection head, or one that does not fit.
        """
        target: Any = getattr(module, 'neck', module)
        state = read_head(Checkpoint.open(self.checkpoint).tensors, self.network, self.checkpoint)
        for name, own in target.state_dict().items():
            shape = tuple(state[name].shape) if name in state else 'nothing'
            if shape != tuple(own.shape):
                raise CheckpointError(
                    f"{self.checkpoint}: '{name}' of the projection head has shape {shape}, here "
                    f'{tuple(own.shape)} is needed: set in_channels, hidden_channels, num_layers, '
                    'num_prototypes and bottleneck_channels of the neck to those of the '
                    'pre-training.'
                )
        target.load_state_dict({name: state[name] for name in target.state_dict()})
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=f'PretrainedHead: loaded from {self.checkpoint}')
