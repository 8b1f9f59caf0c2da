# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Which networks a checkpoint holds, of which family, and whose names they have."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .checkpoint import Checkpoint
from .convert import PATCHES, Converted, convert, num_layers
from .formats import FORMATS, TIMM
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
    (r'blocks\.\d+\.(in_proj|attns\.\d+)\.',
     'a ViT of timm with parallel branches in each layer, which no backbone here has: take '
     'ibot_mm.TimmVisionTransformer as backbone, with the model_name of timm'),
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
        checkpoint: Where it is from.
        assume: What nothing in the file tells: name of a part -> value.
    """

    prefix: str
    family: str
    format: Format
    weights: Converted
    own: Mapping[str, Tensor]
    checkpoint: Checkpoint
    assume: Mapping[str, Any]

    @property
    def is_teacher(self) -> bool:
        """Whether it is an average over training."""
        return not TEACHERS.isdisjoint(self.prefix.split('.'))

    @property
    def num_layers(self) -> int:
        """Number of layers; 0 where their names are of no known format."""
        return num_layers(self.weights.state)

    @property
    def foreign_kind(self) -> str | None:
        """What it is, if no backbone here is such."""
        return foreign_kind(self.prefix + name for name in self.own)

    def left_out(self) -> dict[str, list[str]]:
        """Find the names of a checkpoint that no backbone needs, by what they are."""
        found: dict[str, list[str]] = {}
        for name, what in self.weights.left_out.items():
            found.setdefault(what, []).append(name)
        others = (name for name in self.checkpoint.tensors if not name.startswith(self.prefix))
        beside = [_room(name, self.prefix) for name in others]
        return found | ({'heads and other networks': beside} if beside else {})


def recognize(
    checkpoint: Checkpoint | Mapping[str, Tensor],
    network: str = 'teacher',
    prefix: str | None = None,
    assume: Mapping[str, Any] | None = None,
) -> Network:
    """Find the backbone in a checkpoint.

    Args:
        checkpoint: The checkpoint, or tensors by their names with any prefix.
        network: Which one, where there are several: 'teacher' (also the averages that timm, DeiT
            and I-JEPA store) or 'student'. A file with neither has one network, which is taken.
            Defaults to 'teacher'.
        prefix: What the names of the wanted one have in front, such as ``'encoder.'``, in place
            of ``network``. Defaults to None.
        assume: What nothing in the file tells. Defaults to None.

    Raises:
        CheckpointError: If there is none, not the one wanted, or more than one.
    """
    if network not in ('teacher', 'student'):
        raise CheckpointError(f"network must be 'teacher' or 'student', got {network!r}")
    networks = find_networks(checkpoint, assume, with_others=prefix is not None)
    if not networks:
        raise CheckpointError(_why_none(_opened(checkpoint).tensors))
    prefixes = [n.prefix for n in networks]
    if prefix is not None:
        wanted = prefix.rstrip('.')
        chosen = [n for n in networks if n.prefix.rstrip('.') == wanted]
        chosen = chosen or [n for n in networks if f'.{wanted}.' in f'.{n.prefix}']
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


def find_networks(
    checkpoint: Checkpoint | Mapping[str, Tensor],
    assume: Mapping[str, Any] | None = None,
    with_others: bool = False,
) -> list[Network]:
    """Find all backbones, by the names that some format gives to the patch embedding.

    Args:
        checkpoint, assume: As of :func:`recognize`.
        with_others: Whether to name those too that the checkpoint was not made for, see
            :data:`OTHERS`. Defaults to False.
    """
    opened = _opened(checkpoint)
    anchors = {format.anchor for format in FORMATS}
    prefixes = [
        name.removesuffix(anchor)
        for name in opened.tensors
        for anchor in anchors
        if name == anchor or name.endswith(f'.{anchor}')
    ]
    networks = []
    for prefix in dict.fromkeys(prefixes):
        if not with_others and not OTHERS.isdisjoint(prefix.split('.')):
            continue
        tensors = opened.tensors.items()
        own = _without_chunks({n.removeprefix(prefix): t for n, t in tensors
                               if n.startswith(prefix)})  # fmt: skip
        if read := _read(prefix, own):
            networks.append(Network(prefix, *read, own, opened, dict(assume or {})))
    return networks


def _opened(checkpoint: Checkpoint | Mapping[str, Tensor]) -> Checkpoint:
    return checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint('', checkpoint)


def _read(prefix: str, own: Mapping[str, Tensor]) -> tuple[str, Format, Converted] | None:
    """Family, format and weights of a network."""
    if (swin := swin_format_of(own)) is not None:
        return SWIN, swin, convert(own, swin)
    kinds = {re.sub(r'\.\d+\.', '.0.', name) for name in own}  # the same in every layer
    present = (f for f in FORMATS if all(name in own for name in (f.anchor, *f.requires)))
    format = max(present, key=lambda f: sum(map(f.explains, kinds)))  # explains most names
    weights = convert(own, format)
    if PATCHES not in weights.state:
        return None
    # Layers of timm's may have names that only timm's own model has.
    if not num_layers(weights.state) and not (
        format.anchor == TIMM.anchor and any(name.startswith('blocks.0.') for name in kinds)
    ):
        return None
    return TIMM_MODEL if prefix.endswith(OF_TIMM_MODEL) else VIT, format, weights


def foreign_kind(names: Iterable[str]) -> str | None:
    """Say what a network is that no backbone here is; None for one that may be known."""
    names = list(names)
    found = (k for pattern, k in FOREIGN if any(re.search(pattern, name) for name in names))
    return next(found, None)


def _without_chunks(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2's training keeps blocks in chunks, ``blocks.<chunk>.<block>``."""
    return {re.sub(r'^blocks\.\d+\.(\d+\.)', r'blocks.\1', n): t for n, t in state_dict.items()}


def _room(name: str, prefix: str) -> str:
    """Cut a name where it leaves a prefix: ``'neck.*'`` beside ``'backbone.'``."""
    segments, shared = name.split('.'), prefix.split('.')
    depth = next((i for i, (a, b) in enumerate(zip(segments, shared)) if a != b), 0)
    return '.'.join(segments[: depth + 1]) + ('.*' if depth + 1 < len(segments) else '')


def _why_none(tensors: Mapping[str, Tensor]) -> str:
    if kind := foreign_kind(tensors):
        return f'it holds {kind}, neither a ViT nor a Swin that is known here'
    names = ', '.join(list(tensors)[:4])
    return f'it holds no ViT of a known format; its {len(tensors)} tensors begin with {names}'
