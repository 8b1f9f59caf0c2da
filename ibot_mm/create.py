# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Backbones by name, for use without a config."""

from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

VIT = 'ibot_mm.MaskedVisionTransformer'
SWIN = 'ibot_mm.MaskedSwinTransformer'
SIZES = ('tiny', 'small', 'base', 'large')
_DINOV2 = dict(img_size=518, layer_scale_init_value=1e-5)
_DINOV3 = dict(
    num_registers=4,
    rotary=True,
    layer_scale_init_value=1e-5,
    norm_cfg=dict(type='LN', eps=1e-5),
)


def _backbones() -> dict[str, dict[str, Any]]:
    """Name, after timm's, -> config."""
    configs: dict[str, dict[str, Any]] = {}
    for arch in SIZES:
        for patch in (8, 14, 16):
            configs[f'vit_{arch}_patch{patch}'] = dict(type=VIT, arch=arch, patch_size=patch)
    for arch in SIZES[1:]:
        dinov2 = dict(type=VIT, arch=arch, patch_size=14, **_DINOV2)
        configs[f'vit_{arch}_patch14_dinov2'] = dinov2
        configs[f'vit_{arch}_patch14_reg4_dinov2'] = dinov2 | dict(num_registers=4)
        configs[f'vit_{arch}_patch16_dinov3'] = dict(type=VIT, arch=arch, patch_size=16, **_DINOV3)
    for arch in SIZES:
        for window in (7, 14):
            name = f'swin_{arch}_patch4_window{window}'
            configs[name] = dict(type=SWIN, arch=arch, window_size=window)
    return configs


def list_backbones(pattern: str = '*') -> list[str]:
    """Return the names that :func:`create_backbone` takes.

    Args:
        pattern: With ``*`` and ``?``, for example ``'*_patch16*'``. Defaults to all.
    """
    return [name for name in _backbones() if fnmatchcase(name, pattern)]


def create_backbone(
    name: str,
    pretrained: str | Path | None = None,
    network: str = 'teacher',
    assume: dict[str, Any] | None = None,
    prefix: str | None = None,
    **kwargs: Any,
) -> Any:
    """Build a backbone by its name, ready to give features.

    Args:
        name: One of :func:`list_backbones`. Names follow timm's: family, size, patch, window.
        pretrained: Checkpoint of any known format, see
            :meth:`ibot_mm.checkpoint.Checkpoint.open`. Defaults to None, random weights.
        network: 'teacher' or 'student', where the checkpoint has both. Defaults to 'teacher'.
        assume: What nothing in the file tells, such as ``dict(activation='quick_gelu')``.
            Defaults to None.
        prefix: What the names of the wanted network have in front, in place of ``network``.
            Defaults to None.
        **kwargs: Further arguments of :class:`ibot_mm.MaskedVisionTransformer` or
            :class:`ibot_mm.MaskedSwinTransformer`, such as ``img_size`` or ``out_indices``.

    Returns:
        The backbone in evaluation mode. Called with images (B, 3, H, W), RGB, normalized by mean
        and deviation of ImageNet, it gives a tuple whose last are tokens (B, 1 + N, D), [CLS]
        (of a Swin the mean) first.

    Raises:
        ValueError: If the name is unknown, or the weights do not fit.
    """
    from mmengine.logging import MMLogger
    from mmengine.registry import MODELS

    configs = _backbones()
    if name not in configs:
        near = get_close_matches(name, configs, n=4, cutoff=0.5)
        hint = f'near are {", ".join(near)}' if near else 'list_backbones() has all'
        raise ValueError(f"Unknown backbone '{name}': {hint}.")
    config = dict(mask_token=False) | configs[name] | kwargs
    backbone = MODELS.build(config)
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')  # one line for each parameter otherwise
    backbone.init_weights()
    logger.setLevel(level)
    if pretrained is not None:
        from .checkpoint import load_weights

        load_weights(backbone, pretrained, network, prefix, assume=assume).log()
    return backbone.eval()
