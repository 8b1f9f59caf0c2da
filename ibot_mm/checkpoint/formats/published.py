# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Parameter names of the published iBOT code and of ibot_mm."""

import re

from torch import Tensor

from .swin import swin_format_of
from .timm import PUBLISHED

# Published name -> ours, tried in order.
_BACKBONE = PUBLISHED.substitutions()
# Head; the numbered layers of its MLP are resolved in _mlp_names.
_HEAD = (
    (r'last_layer\.weight_g', 'cls_prototypes.parametrizations.weight.original0'),
    (r'last_layer\.weight_v', 'cls_prototypes.parametrizations.weight.original1'),
    (r'last_layer2\.weight_g', 'patch_prototypes.parametrizations.weight.original0'),
    (r'last_layer2\.weight_v', 'patch_prototypes.parametrizations.weight.original1'),
    (r'mlp2\.(.*)', r'patch_prototypes.\1'),
    (r'mlp\.(weight|bias)', r'layers.0.\1'),
)


def published_to_ibot_mm(state_dict: dict[str, Tensor], shared_head: bool) -> dict[str, str]:
    """Map the names of a published student or teacher to ours.

    Args:
        state_dict: Published names (``backbone.*``, ``head.*``) and tensors; shapes tell linear
            layers from norms.
        shared_head: Whether [CLS] and patch tokens share the prototypes; the published code then
            stores them twice.

    Returns:
        Published name -> our name. Names stored twice (shared prototypes, the one norm
        module of all hidden layers) map to the same of ours.

    Raises:
        KeyError: If a name is not one of the published code's.
    """
    mlp = _mlp_names(state_dict)
    swin = swin_format_of(state_dict)
    backbone = swin.substitutions() if swin else _BACKBONE
    names = {}
    for name in state_dict:
        if name in mlp:
            ours = f'neck.{mlp[name]}'
        elif name.startswith('backbone.'):
            ours = f'backbone.{_rename(name, "backbone.", backbone)}'
        else:
            ours = f'neck.{_rename(name, "head.", _HEAD)}'
        names[name] = ours.replace('patch_prototypes', 'cls_prototypes') if shared_head else ours
    return names


def _rename(name: str, prefix: str, table: tuple[tuple[str, str], ...]) -> str:
    stem = name.removeprefix(prefix)
    for pattern, replacement in table:
        match = re.fullmatch(pattern, stem)
        if match:
            return match.expand(replacement)
    raise KeyError(f"'{name}' is not a parameter name of the published iBOT code.")


def _mlp_names(state_dict: dict[str, Tensor]) -> dict[str, str]:
    """Names ``head.mlp.<index>.*``: linear layers in order, all norms one module.

    Without a bottleneck there is no ``last_layer``, and the last linear layer is the prototypes.
    """
    indexed = {}
    for name, tensor in state_dict.items():
        match = re.fullmatch(r'head\.mlp\.(\d+)\.(\w+)', name)
        if match:
            indexed[name] = (int(match[1]), match[2], tensor)
    linear = sorted({i for i, leaf, t in indexed.values() if leaf == 'weight' and t.ndim == 2})
    modules = {index: f'layers.{place}' for place, index in enumerate(linear)}
    if linear and 'head.last_layer.weight_v' not in state_dict:
        modules[linear[-1]] = 'cls_prototypes'
    return {
        name: f'{modules.get(index, "norm")}.{leaf}' for name, (index, leaf, _) in indexed.items()
    }
