# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Which networks a checkpoint holds, of which family, and whose names they have."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from .convert import PATCHES, Converted, convert, num_layers
from .formats import FORMATS
from .formats.swin import swin_format_of
from .locate import CheckpointError
from .names import Format

VIT, SWIN, TIMM_MODEL = 'ViT', 'Swin', "timm's ViT"  # families
OF_TIMM_MODEL = 'timm_model.'  # between the name of our backbone and timm's names
# Averages of weights over training.
TEACHERS = {'teacher', 'state_dict_ema', 'model_ema', 'target_encoder', 'teacher_backbone'}
# Not the network that a checkpoint was made for.
OTHERS = {'ema_state_dict', 'target_generator', 'momentum_encoder', 'decoder'}

# Kinds of network that no backbone here is, by a name of theirs.
_WINDOWED = (
    'windows and relative positions (rel_pos_h, rel_pos_w) in each layer, which no backbone has'
)
FOREIGN = (
    (r'(^|\.)(layer1|res2)\.0\.conv1\.', 'a ResNet'),
    (r'attn\.logit_scale|\.cpb_mlp\.', 'a Swin Transformer v2, whose attention no Swin here has'),
    (r'image_encoder\..*attn\.rel_pos_h', f"SAM's image encoder, with {_WINDOWED}"),
    (r'attn\.rel_pos_h|attention\.rel_pos_h', f'a ViTDet or SAM, with {_WINDOWED}'),
    (r'(inner_attn_ln|attn\.norm|mlp\.ffn_ln|mlp\.norm)\.weight',
     'an EVA-02 or BEiT-3, with norms within its branches: take ibot_mm.TimmVisionTransformer as '
     'backbone, with the model_name of timm'),
    (r'layers\.\d+\.blocks\.\d+\.|stages\.\d+\.blocks\.\d+\.attn', 'a Swin Transformer'),
    (r'stages\.\d+\.', 'a network of stages, such as ConvNeXt'),
)  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A backbone within a checkpoint.

    Args:
        prefix: What its names have in front, for example ``'teacher.backbone.'``.
        family: 'ViT', 'Swin' or "timm's ViT", the last a model of timm within a backbone of ours,
            under timm's own names.
        format: Whose names they are.
        weights: Its weights under our names.
        own: The same under their names, without prefix.
    """

    prefix: str
    family: str
    format: Format
    weights: Converted
    own: Mapping[str, Tensor]

    @property
    def is_teacher(self) -> bool:
        """Whether it is an average over training."""
        return not TEACHERS.isdisjoint(self.prefix.split('.'))


def recognize(
    tensors: Mapping[str, Tensor], network: str = 'teacher', prefix: str | None = None
) -> Network:
    """Find the backbone in a checkpoint.

    Args:
        tensors: By their names, with any prefix, as those of :class:`Checkpoint`.
        network: Which one, where there are several: 'teacher' (also the averages that timm, DeiT
            and I-JEPA store) or 'student'. A file with neither has one network, which is taken.
            Defaults to 'teacher'.
        prefix: What the names of the wanted one have in front, such as ``'encoder.'``, in place
            of ``network``. Defaults to None.

    Raises:
        CheckpointError: If there is none, not the one wanted, or more than one.
    """
    if network not in ('teacher', 'student'):
        raise CheckpointError(f"network must be 'teacher' or 'student', got {network!r}")
    networks = find_networks(tensors)
    if not networks:
        raise CheckpointError(_why_none(tensors))
    prefixes = [n.prefix for n in networks]
    if prefix is not None:
        wanted = prefix.rstrip('.')
        chosen = [n for n in networks if n.prefix.rstrip('.') == wanted]
        chosen = chosen or [n for n in networks if n.prefix.rstrip('.').endswith(f'.{wanted}')]
        if len(chosen) != 1:
            raise CheckpointError(
                f"it holds no single network '{prefix}': set prefix to one of {prefixes}"
            )
        return chosen[0]
    teachers = [n for n in networks if n.is_teacher]
    students = [n for n in networks if not n.is_teacher]
    chosen = (teachers or students) if network == 'teacher' else students
    if not chosen:
        raise CheckpointError(f'it holds no student, only {prefixes}: set network="teacher"')
    if len(chosen) > 1:
        found = [n.prefix for n in chosen]
        raise CheckpointError(f'it holds several networks, {found}: set prefix to one of them')
    return chosen[0]


def find_networks(tensors: Mapping[str, Tensor]) -> list[Network]:
    """All backbones in a checkpoint, by the names that some format gives to the patch embedding."""
    anchors = {format.anchor for format in FORMATS}
    prefixes = [
        name.removesuffix(anchor)
        for name in tensors
        for anchor in anchors
        if name == anchor or name.endswith(f'.{anchor}')
    ]
    networks = []
    for prefix in dict.fromkeys(prefixes):
        if not OTHERS.isdisjoint(prefix.split('.')):
            continue
        own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        found = _read(prefix, _without_chunks(own))
        if found:
            networks.append(found)
    return networks


def _read(prefix: str, own: Mapping[str, Tensor]) -> Network | None:
    swin = swin_format_of(own)
    if swin is not None:
        return Network(prefix, SWIN, swin, convert(own, swin), own)
    present = [f for f in FORMATS if all(name in own for name in (f.anchor, *f.requires))]
    format, weights = _best(own, present)
    patches = weights.state.get(PATCHES)
    if not num_layers(weights.state) or patches is None or patches.ndim != 4:
        return None
    family = TIMM_MODEL if prefix.endswith(OF_TIMM_MODEL) else VIT
    return Network(prefix, family, format, weights, own)


def foreign_kind(names: Iterable[str]) -> str | None:
    """What a network is that no backbone here is; None for one that may be known."""
    names = list(names)
    found = (k for pattern, k in FOREIGN if any(re.search(pattern, name) for name in names))
    return next(found, None)


def _without_chunks(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2's training keeps blocks in chunks, ``blocks.<chunk>.<block>``."""
    return {re.sub(r'^blocks\.\d+\.(\d+\.)', r'blocks.\1', n): t for n, t in state_dict.items()}


def _best(own: Mapping[str, Tensor], formats: Sequence[Format]) -> tuple[Format, Converted]:
    """The format that explains most names."""
    kinds = {re.sub(r'\.\d+\.', '.0.', name) for name in own}  # the same in every layer
    format = max(formats, key=lambda candidate: sum(map(candidate.explains, kinds)))
    return format, convert(own, format)


def _why_none(tensors: Mapping[str, Tensor]) -> str:
    if kind := foreign_kind(tensors):
        return f'it holds {kind}, neither a ViT nor a Swin that is known here'
    names = ', '.join(list(tensors)[:4])
    return f'it holds no ViT of a known format; its {len(tensors)} tensors begin with {names}'
