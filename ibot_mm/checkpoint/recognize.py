# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Which networks a checkpoint holds, and whose names they have."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from .convert import Converted, convert
from .errors import CheckpointError
from .formats import FORMATS, Format

TEACHERS = {'teacher', 'state_dict_ema', 'model_ema'}  # averages of weights over training
# Not the network that a checkpoint was made for.
OTHERS = {'ema_state_dict', 'target_generator', 'momentum_encoder', 'decoder'}

# Kinds of network that are no ViT, by a name of theirs.
FOREIGN = (
    (r'(^|\.)layer1\.0\.conv1\.', 'a ResNet'),
    (r'layers\.\d+\.blocks\.\d+\.|stages\.\d+\.blocks\.\d+\.attn', 'a Swin Transformer'),
    (r'stages\.\d+\.', 'a network of stages, such as ConvNeXt'),
    (r'encoder_layer_\d+\.', "torchvision's ViT, a format that is not known here"),
    (r'resblocks\.\d+\.', "OpenAI's CLIP, a format that is not known here"),
)


@dataclass(frozen=True)
class Network:
    """A ViT within a checkpoint.

    Args:
        prefix: What its names have in front, for example ``'teacher.backbone.'``.
        format: Whose names they are.
        weights: Its weights under our names.
    """

    prefix: str
    format: Format
    weights: Converted

    @property
    def is_teacher(self) -> bool:
        """Whether it is an average over training."""
        return not TEACHERS.isdisjoint(self.prefix.split('.'))


def recognize(state_dict: Mapping[str, Tensor], network: str = 'teacher') -> Network:
    """Find the ViT in a checkpoint.

    Args:
        state_dict: Tensors by their names, with any prefix, as from
            :func:`load_checkpoint_file`.
        network: Which one, where there are several: 'teacher' (also the averages that timm and
            DeiT store) or 'student'. A file with neither has one network, which is
            taken. Defaults to 'teacher'.

    Returns:
        The network, its format recognized by its names.

    Raises:
        CheckpointError: If there is no ViT, not the one wanted, or more than one.
    """
    networks = find_networks(state_dict)
    if not networks:
        raise CheckpointError(_why_none(state_dict))
    teachers = [n for n in networks if n.is_teacher]
    students = [n for n in networks if not n.is_teacher]
    chosen = (teachers or students) if network == 'teacher' else students
    prefixes = [n.prefix for n in networks]
    if not chosen:
        raise CheckpointError(f'it holds no student, only {prefixes}: set network="teacher"')
    if len(chosen) > 1:
        raise CheckpointError(f'it holds several networks, {prefixes}: store one of them alone')
    return chosen[0]


def choose_prefix(prefixes: Sequence[str], network: str) -> str:
    """What the names of the wanted network have in front.

    Args:
        prefixes: Those of all networks in a checkpoint.
        network: 'teacher' or 'student'. Where there is no teacher, the only network is taken for
            both.

    Raises:
        CheckpointError: If there is no such network, or more than one.
    """
    if network not in ('teacher', 'student'):
        raise CheckpointError(f"network must be 'teacher' or 'student', got {network!r}")
    teachers = [prefix for prefix in prefixes if 'teacher' in prefix.split('.')]
    students = [prefix for prefix in prefixes if prefix not in teachers]
    chosen = (teachers or students) if network == 'teacher' else students
    if len(chosen) != 1:
        raise CheckpointError(
            f'it holds no single {network}: networks were found under {list(prefixes)}. Give a '
            "checkpoint of a pre-training, or network='teacher' where only that was stored"
        )
    return chosen[0]


def find_networks(state_dict: Mapping[str, Tensor]) -> list[Network]:
    """All ViTs in a checkpoint, by the names that some format gives to the patch embedding."""
    anchors = {format.anchor for format in FORMATS}
    prefixes = [
        name.removesuffix(anchor)
        for name in state_dict
        for anchor in anchors
        if name == anchor or name.endswith(f'.{anchor}')
    ]
    networks = []
    for prefix in dict.fromkeys(prefixes):
        if not OTHERS.isdisjoint(prefix.split('.')):
            continue
        own = {n.removeprefix(prefix): t for n, t in state_dict.items() if n.startswith(prefix)}
        found = _best(_without_chunks(own))
        if found:
            networks.append(Network(prefix, *found))
    return networks


def _without_chunks(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2's training keeps blocks in chunks, ``blocks.<chunk>.<block>``."""
    return {re.sub(r'^blocks\.\d+\.(\d+\.)', r'blocks.\1', n): t for n, t in state_dict.items()}


def _best(state_dict: Mapping[str, Tensor]) -> tuple[Format, Converted] | None:
    """The format that explains most names, if it finds encoder layers."""
    kinds = {re.sub(r'\.\d+\.', '.0.', name) for name in state_dict}  # the same in every layer
    candidates = [
        format
        for format in FORMATS
        if all(name in state_dict for name in (format.anchor, *format.requires))
    ]
    format = max(candidates, key=lambda candidate: sum(map(candidate.explains, kinds)))
    converted = convert(state_dict, format)
    return (format, converted) if num_layers(converted.state) else None


def num_layers(names: Mapping[str, Tensor] | Sequence[str]) -> int:
    """Number of encoder layers, by our names."""
    found = (re.match(r'layers\.(\d+)\.', name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _why_none(state_dict: Mapping[str, Tensor]) -> str:
    for pattern, kind in FOREIGN:
        if any(re.search(pattern, name) for name in state_dict):
            return f'it holds {kind}, and the backbone is a ViT'
    names = ', '.join(list(state_dict)[:4])
    return f'it holds no ViT of a known format; its {len(state_dict)} tensors begin with {names}'
