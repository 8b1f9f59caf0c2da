# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights of any checkpoint through ``init_cfg``."""

from collections.abc import Mapping
from typing import Any

from mmengine.model import update_init_info
from torch import nn

from ibot_mm.registry import WEIGHT_INITIALIZERS

from .load import load_weights

NAMES = ('ibot_mm.Pretrained', 'Pretrained')


@WEIGHT_INITIALIZERS.register_module()
class Pretrained:
    """Fills a backbone with the weights of a checkpoint, whatever published or stored it.

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

    Raises:
        ValueError: If ``network`` is neither of the two.
    """

    def __init__(
        self,
        checkpoint: str,
        network: str = 'teacher',
        prefix: str | None = None,
        strict: bool = True,
        assume: Mapping[str, Any] | None = None,
    ) -> None:
        if network not in ('teacher', 'student'):
            raise ValueError(f"network must be 'teacher' or 'student', got {network!r}.")
        self.checkpoint = checkpoint
        self.options: dict[str, Any] = dict(
            network=network, prefix=prefix, strict=strict, assume=assume
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
