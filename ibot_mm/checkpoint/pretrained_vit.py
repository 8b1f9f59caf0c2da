# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights of any ViT checkpoint through ``init_cfg``."""

from typing import Any

from mmengine.model import update_init_info
from torch import nn

from ibot_mm.registry import WEIGHT_INITIALIZERS

from .load import load_pretrained_vit
from .load_timm import load_timm_vit

NAMES = ('PretrainedViT', 'ibot_mm.PretrainedViT')


@WEIGHT_INITIALIZERS.register_module()
class PretrainedViT:
    """Fills a backbone with the weights of a checkpoint, whatever published or stored it.

    For example ``backbone=dict(..., init_cfg=dict(type='ibot_mm.PretrainedViT',
    checkpoint='work_dirs/ibot_vitb16/epoch_400.pth'))``. The format is recognized by the names
    in the file: this project's, published iBOT and DINO, DINOv2, DINOv3, MAE, BEiT, DeiT, timm,
    mmpretrain, Hugging Face's transformers. One table in the log says what was loaded and what
    was not. A backbone that holds a model of timm is filled by :func:`load_timm_vit`.

    Args:
        checkpoint (str): See :func:`ibot_mm.checkpoint.load_checkpoint_file`.
        network (str): 'teacher' or 'student', where the file has both. Defaults to 'teacher'.
        strict (bool): Whether weights that do not fit are an error, which names the option that
            ends it; else they are a warning, and what fits is loaded. Defaults to True.

    Raises:
        ValueError: If ``network`` is neither of the two.
    """

    def __init__(self, checkpoint: str, network: str = 'teacher', strict: bool = True) -> None:
        if network not in ('teacher', 'student'):
            raise ValueError(f"network must be 'teacher' or 'student', got {network!r}.")
        self.checkpoint = checkpoint
        self.network = network
        self.strict = strict

    def __call__(self, module: nn.Module) -> None:
        """Fill a backbone, as mmengine's ``initialize`` does it."""
        self._go_last(module)
        load = load_timm_vit if hasattr(module, 'timm_model') else load_pretrained_vit
        report = load(module, self.checkpoint, self.network, self.strict)
        report.log()
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=f'PretrainedViT: loaded from {self.checkpoint}')

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
                'PretrainedViT must be the last of the init_cfg list: what follows it would '
                'overwrite the weights.'
            )
        if not hasattr(module, '_params_init_info') or module.is_init:
            return  # not within mmengine's init_weights
        for child in module.children():
            if hasattr(child, 'init_weights') and not getattr(child, 'is_init', False):
                child.init_weights()
        module.init_cfg = dict(type='Pretrained', checkpoint=self.checkpoint)
