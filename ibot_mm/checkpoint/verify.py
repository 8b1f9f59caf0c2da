# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What a checkpoint holds, whether it is whole, and which configs it fits."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ibot_mm.registry import MODELS

from .config_fit import WITHOUT_EFFECT, backbone_configs, find_fits
from .describe import ViTDescription, describe_weights
from .errors import CheckpointError
from .export import TIMM_MODEL
from .files import load_checkpoint_file
from .load import compare
from .pretrained_swin import compare_swin
from .recognize import Network, find_networks, num_layers, recognize
from .report import LoadReport, summary
from .settings import Settings, read_backbone_config, read_settings
from .swin_names import find_prefixes, foreign_swin, holds_swin, read_swin, swin_options


@dataclass
class NetworkReport:
    """One backbone of a checkpoint.

    Args:
        prefix: What its names have in front.
        facts: What it is: title -> words.
        missing: Our names of parameters that it should have and has not.
        unexpected: Names that no known network has.
        differences: Why no backbone of this project takes it, if none does.
        fits: Config -> what is resized for it, empty where nothing is.
    """

    prefix: str
    facts: dict[str, str]
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    fits: dict[str, str] = field(default_factory=dict)

    def rows(self) -> dict[str, list[str]]:
        """Title -> lines."""
        fits = [f'{name} ({how})' if how else name for name, how in self.fits.items()]
        return {title: [words] for title, words in self.facts.items()} | {
            'missing': [_names(self.missing)],
            'unexpected': [_names(self.unexpected)],
            'differences': self.differences,
            'fits': fits or ['no config of this project'],
        }


@dataclass
class Verification:
    """A checkpoint.

    Args:
        checkpoint: Where it lies.
        networks: Its backbones.
        beside: What else it holds -> number of tensors.
        not_finite: Tensor -> how many of its values are infinite or no numbers.
        not_compared: Config that could not be read here -> why.
    """

    checkpoint: str
    networks: list[NetworkReport]
    beside: dict[str, int]
    not_finite: dict[str, str]
    not_compared: dict[str, str]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is missing, unknown or not finite."""
        amiss = any(n.missing or n.unexpected or n.differences for n in self.networks)
        return not amiss and not self.not_finite

    def __str__(self) -> str:
        lines = [self.checkpoint]
        for network in self.networks:
            lines += ['', f"network '{network.prefix}*'", *_table(network.rows())]
        everything = {
            'beside': [f'{name} ({number})' for name, number in self.beside.items()] or ['nothing'],
            'not finite': [f'{n}: {what}' for n, what in self.not_finite.items()] or ['nothing'],
            'not compared': [f'{name}: {why}' for name, why in self.not_compared.items()],
        }
        return '\n'.join([*lines, '', *_table(everything)])


def verify_checkpoint(checkpoint: str | Path) -> Verification:
    """Look at everything in a checkpoint that can be wrong.

    Args:
        checkpoint: See :func:`load_checkpoint_file`.

    Raises:
        CheckpointError: If it cannot be read, or holds neither ViT nor Swin.
    """
    tensors = load_checkpoint_file(checkpoint)
    settings = read_settings(checkpoint)
    reports = []
    for network in find_networks(tensors):
        if network.prefix.endswith(TIMM_MODEL):
            reports.append(_verify_timm(network, tensors, read_backbone_config(checkpoint)))
        else:
            reports.append(_verify_vit(network, tensors, settings))
    if not reports and holds_swin(tensors):
        reports = [_verify_swin(prefix, tensors, settings) for prefix in find_prefixes(tensors)]
    if not reports:
        try:
            recognize(tensors)
        except CheckpointError as error:
            raise CheckpointError(f'{checkpoint} cannot be used: {error}.') from error
    teachers = [report.prefix for report in reports if report.facts['role'] == 'teacher']
    for report in reports:
        if teachers and report.prefix not in teachers:
            report.facts['role'] = 'student'
    inside = tuple(report.prefix for report in reports)
    beside = Counter(_room(name) for name in tensors if not name.startswith(inside))
    return Verification(
        checkpoint=str(checkpoint),
        networks=reports,
        beside=dict(beside),
        not_finite=_not_finite(tensors),
        not_compared=backbone_configs()[1],
    )


def _verify_vit(
    network: Network, tensors: Mapping[str, Tensor], settings: Settings
) -> NetworkReport:
    def compare_with(backbone: nn.Module) -> LoadReport:
        return compare(backbone, network, tensors, '', settings)[0]

    role = _role(network.prefix, network.is_teacher, 'mask_token' in network.weights.state)
    report = NetworkReport(network.prefix, {'role': role, 'family': network.format.title})
    try:
        vit = describe_weights(network, settings)
        report.facts |= _facts(vit, network.weights.state)
        options = replace(vit, num_heads=vit.num_heads or 1).options()
        with torch.device('meta'):
            backbone = MODELS.build(dict(type='ibot_mm.MaskedVisionTransformer', **options))
    except CheckpointError as error:
        report.differences.append(str(error))
        return report
    own = compare_with(backbone)
    report.missing, report.unexpected = own.missing, own.unexpected
    report.differences, report.fits = own.differences, find_fits(compare_with)
    return report


def _verify_timm(
    network: Network, tensors: Mapping[str, Tensor], config: dict[str, Any]
) -> NetworkReport:
    """A model of timm inside a backbone of ours: of any kind, under timm's own names."""
    own = {n.removeprefix(network.prefix): t for n, t in tensors.items()
           if n.startswith(network.prefix)}  # fmt: skip

    def compare_with(backbone: Any) -> LoadReport:
        if not hasattr(backbone, 'timm_model'):
            raise CheckpointError(f'{type(backbone).__name__} holds no model of timm.')
        other = backbone.timm_model.state_dict()
        report = LoadReport('', 'timm', network.prefix, type(backbone).__name__)
        report.missing = [n for n in other if n not in own or own[n].shape != other[n].shape]
        report.unexpected = [n for n in own if n not in other]
        if report.missing or report.unexpected:
            report.differences.append('It is another model of timm.')
        return report

    state = network.weights.state
    patches = state['patch_embed.projection.weight']
    facts = {
        'role': _role(network.prefix, network.is_teacher, False),
        'family': f"timm's {config.get('model_name', 'model, which one is not told')}",
        'patch': f'{patches.shape[2]} x {patches.shape[3]}',
        'width': str(patches.shape[0]),
        'depth': str(num_layers(state)),
        'heads': 'as timm has it',
        'parameters': _size(own),
    }
    report = NetworkReport(network.prefix, facts, fits=find_fits(compare_with))
    if str(config.get('type')).endswith('TimmVisionTransformer'):
        options = {name: value for name, value in config.items() if name not in WITHOUT_EFFECT}
        with torch.device('meta'):
            found = compare_with(MODELS.build(options | dict(type='ibot_mm.TimmVisionTransformer')))
        report.missing, report.unexpected = found.missing, found.unexpected
    return report


def _facts(vit: ViTDescription, state: Mapping[str, Tensor]) -> dict[str, str]:
    grid = ' x '.join(map(str, vit.grid or ()))
    kinds = {
        f'learned, {grid} patches': vit.grid is not None,
        'rotary': vit.rotary,
        'relative': any(name.endswith('relative_position_bias_table') for name in state),
    }
    parts = {
        'layer scale': vit.layer_scale,
        f'{vit.num_registers} registers': vit.num_registers,
        'mask token': vit.mask_token,
        'distillation token': 'dist_token' in state,
        'SwiGLU': vit.gated,
        'norm before the layers': vit.pre_norm,
        'no [CLS] token': not vit.cls_token,
        'no final norm': not vit.final_norm,
        'no biases of queries, keys and values': not vit.qkv_bias,
    }
    return {
        'patch': ' x '.join(map(str, vit.patch_size)),
        'width': f'{vit.embed_dims}, {vit.hidden} in the feed-forward network',
        'depth': str(vit.num_layers),
        'heads': f'{vit.num_heads or "unknown"}, {vit.heads_from}',
        'positions': ', '.join(kind for kind, has in kinds.items() if has) or 'of an unknown kind',
        'extras': ', '.join(part for part, has in parts.items() if has) or 'none',
        'parameters': _size(state),
    }


def _verify_swin(prefix: str, tensors: Mapping[str, Tensor], settings: Settings) -> NetworkReport:
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    def compare_with(backbone: nn.Module) -> LoadReport:
        return compare_swin(backbone, own, '')[0]

    format = foreign_swin(own)
    role = _role(prefix, 'teacher' in prefix.split('.'), False)
    report = NetworkReport(
        prefix, {'role': role, 'family': format.title if format else 'Swin of ibot_mm and mm'}
    )
    try:
        state = read_swin(own)
        options = swin_options(state, settings)
        arch = options['arch']
        report.facts |= {
            'patch': f'{options["patch_size"]} x {options["patch_size"]}',
            'width': str(arch['embed_dims']),
            'depth': str(arch['depths']),
            'heads': f'{arch["num_heads"]}, by the tables of relative positions',
            'windows': str(options['window_size']),
            'extras': 'mask token' if options['mask_token'] else 'none',
            'parameters': _size(state),
        }
        found = compare_with(MODELS.build(dict(type='ibot_mm.MaskedSwinTransformer', **options)))
    except CheckpointError as error:
        report.differences.append(str(error))
        return report
    report.missing, report.unexpected = found.missing, found.unexpected
    report.fits = find_fits(compare_with)
    return report


def _role(prefix: str, is_teacher: bool, has_mask_token: bool) -> str:
    if is_teacher:
        return 'teacher'
    return 'not told' + (', but it has a mask token, as students have' if has_mask_token else '')


def _size(state: Mapping[str, Tensor]) -> str:
    number = sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point())
    types = {str(t.dtype).removeprefix('torch.') for t in state.values() if t.is_floating_point()}
    return f'{number:,}, {" and ".join(sorted(types))}'


def _room(name: str) -> str:
    """The first part of a name that says something."""
    parts = [part for part in name.split('.') if part not in ('state_dict', 'module')]
    return '.'.join(parts[: 2 if parts[0] in ('student', 'teacher') else 1])


def _names(names: list[str]) -> str:
    return (summary(names) if len(names) > 6 else ', '.join(names)) or 'nothing'


def _not_finite(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    found = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            nan, infinite = int(tensor.isnan().sum()), int(tensor.isinf().sum())
            found[name] = f'{nan} nan, {infinite} infinite, of {tensor.numel()}'
    return found


def _table(rows: Mapping[str, list[str]]) -> list[str]:
    """Title and lines, the title only before the first; rows without lines are left out."""
    return [
        f'  {title if i == 0 else "":13}{line}'
        for title, lines in rows.items()
        for i, line in enumerate(lines)
    ]
