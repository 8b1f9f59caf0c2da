# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights of any checkpoint through ``init_cfg``: of backbones, and of projection heads."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import update_init_info
from torch import Tensor, nn

from ibot_mm.registry import WEIGHT_INITIALIZERS

from .channels import check_inflate
from .checkpoint import Checkpoint
from .formats.published import published_to_ibot_mm
from .load import load_weights
from .locate import CheckpointError

NAMES = ('ibot_mm.Pretrained', 'Pretrained')


@WEIGHT_INITIALIZERS.register_module()
class Pretrained:
    """Fills a backbone with the weights of a checkpoint, published or stored by any project.

    For example ``backbone=dict(..., init_cfg=dict(type='ibot_mm.Pretrained',
    checkpoint='work_dirs/ibot_vitb16/epoch_400.pth'))``. The backbone is a ViT of this project,
    mmpretrain or mmseg, a wrapped model of timm, or a Swin of any mm package. Formats are
    recognized by the names in the file, see ``docs/weights.md``. One table in the log says what
    was loaded and what was not.

    Args:
        checkpoint (str): See :meth:`ibot_mm.checkpoint.Checkpoint.open`.
        network (str): 'teacher' or 'student', where the file has both. Defaults to 'teacher'.
        prefix (str, optional): What the names of the wanted network have in front, in place of
            ``network``. Defaults to None.
        strict (bool): Whether weights that do not fit are an error, which names the option that
            ends it; else they are a warning, and what fits is loaded. Defaults to True.
        assume (dict, optional): What nothing in the file tells, such as
            ``dict(activation='quick_gelu')``. Defaults to None.
        inflate (str | list): How the patch embedding gets the backbone's ``in_channels``, where
            the checkpoint has others. 'repeat' takes the kernels of RGB in turn, 'mean' their mean;
            a list says for each channel which one of the checkpoint it starts from, counted from
            0, or None for the mean: ``[2, 1, 0, None]`` for blue, green, red, infrared. All are
            scaled by the ratio of the numbers. Defaults to 'repeat', as timm does it.

    Raises:
        ValueError: If ``network`` is neither of the two, or ``inflate`` none of the three.
    """

    def __init__(
        self,
        checkpoint: str,
        network: str = 'teacher',
        prefix: str | None = None,
        strict: bool = True,
        assume: Mapping[str, Any] | None = None,
        inflate: str | Sequence[int | None] = 'repeat',
    ) -> None:
        _check(network)
        check_inflate(inflate)
        self.checkpoint = checkpoint
        self.options: dict[str, Any] = dict(
            network=network, prefix=prefix, strict=strict, assume=assume, inflate=inflate
        )

    def __call__(self, module: nn.Module) -> None:
        """Fill a backbone, as mmengine's ``initialize`` does it."""
        self._go_last(module)
        report = load_weights(module, self.checkpoint, **self.options)
        report.log()
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=f'Pretrained: loaded from {self.checkpoint}')

    def _go_last(self, module: Any) -> None:
        """See to it that the rest of ``init_weights`` leaves the weights alone.

        mmengine lets only its own ``Pretrained`` go last; after all others it initializes the
        children. So they are initialized here, which they remember, and the module passes for one
        whose weights come from ``Pretrained``, which mmpretrain's ViT looks for.
        """
        init_cfg = getattr(module, 'init_cfg', None)
        last = init_cfg[-1]['type'] if isinstance(init_cfg, list) else NAMES[0]
        if getattr(last, '__name__', last) not in NAMES:
            raise ValueError(
                'ibot_mm.Pretrained must be the last of the init_cfg list: what follows it would '
                'overwrite the weights.'
            )
        if not hasattr(module, '_params_init_info') or module.is_init:
            return  # not within mmengine's init_weights
        for child in module.children():
            if hasattr(child, 'init_weights') and not getattr(child, 'is_init', False):
                child.init_weights()
        module.init_cfg = dict(type='Pretrained', checkpoint=self.checkpoint)


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


def read_head(
    tensors: Mapping[str, Tensor], network: str = 'teacher', checkpoint: str = 'the checkpoint'
) -> dict[str, Tensor]:
    """Find the projection head in the tensors of a full checkpoint of a pre-training.

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
    _check(network)
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


def _check(network: str) -> None:
    if network not in ('teacher', 'student'):
        raise ValueError(f"network must be one of 'teacher' and 'student', got {network!r}.")
