# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What a checkpoint holds, whether it is whole, and which configs of this project take it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ibot_mm import compatibility
from ibot_mm.registry import MODELS

from .checkpoint import Checkpoint
from .load import family_named, family_of
from .locate import CheckpointError
from .recognize import VIT, Network, find_networks, recognize
from .report import LoadReport, summary

CONFIGS = Path(__file__).parents[1] / '.mim/configs'
# Of a backbone's config, what changes no parameter's shape.
WITHOUT_EFFECT = ('init_cfg', 'pretrained', 'drop_path_rate', 'frozen_stages', 'with_cp')


@dataclass
class NetworkReport:
    """One backbone of a checkpoint.

    Args:
        prefix: What its names have in front.
        facts: What it is: title -> words.
        missing: Our names of parameters that it should have and does not have.
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
        """List the lines, title -> lines."""
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
        not_compared: Config that could not be read or built here -> why.
    """

    checkpoint: str
    networks: list[NetworkReport]
    beside: dict[str, int]
    not_finite: dict[str, str]
    not_compared: dict[str, str]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is missing, unknown, unclear or not finite."""
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


def verify_checkpoint(location: str | Path) -> Verification:
    """Look at everything in a checkpoint that can be wrong.

    Args:
        location: See :meth:`Checkpoint.open`.

    Raises:
        CheckpointError: If it cannot be read, or holds neither ViT nor Swin.
    """
    checkpoint = Checkpoint.open(location)
    found = find_networks(checkpoint)
    if not found:
        with checkpoint.named_in_errors():
            recognize(checkpoint)  # which says why
    not_compared = dict(backbone_configs()[1])
    reports = [_verify(network, not_compared) for network in found]
    if any(network.is_teacher for network in found):
        for network, report in zip(found, reports):
            report.facts['role'] = 'teacher' if network.is_teacher else 'student'
    inside = tuple(network.prefix for network in found)
    beside = Counter(_room(name) for name in checkpoint.tensors if not name.startswith(inside))
    not_finite = _not_finite(checkpoint.tensors)
    return Verification(str(location), reports, dict(beside), not_finite, not_compared)


def _verify(network: Network, not_compared: dict[str, str]) -> NetworkReport:
    family = family_named(network)
    has_mask_token = 'mask_token' in network.weights.state and network.family == VIT
    role = 'not told' + (', but it has a mask token, as students have' if has_mask_token else '')
    report = NetworkReport(network.prefix, {'role': role, 'family': network.format.title})
    try:
        report.facts |= family.facts(network)
        try:
            options = family.options(network)
        except CheckpointError:
            if not report.facts['heads'].startswith(('unknown', 'as timm')):
                raise
            options = {}  # they are asked for; the rest can be compared
            if network.family == VIT:
                options = family.options(replace(network, assume=dict(num_heads=1)))
        if options:
            backbone = _build(options)
            own = family_of(backbone).compare(backbone, network)
            report.missing, report.unexpected = own.missing, own.unexpected
            report.differences = own.differences
    except CheckpointError as error:
        report.differences.append(str(error))
        return report
    except ImportError as error:
        report.differences.append(str(error).split('\n')[0])
    report.fits = _find_fits(network, not_compared)
    return report


@cache
def backbone_configs() -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the backbone of every config.

    Returns:
        Config, such as ``'pretrain/ibot_vits16'``, -> config of its backbone; and config -> why it
        could not be read.
    """
    found, unread = {}, {}
    for path in sorted(CONFIGS.glob('[!_]*/*.py')):
        name = f'{path.parent.name}/{path.stem}'
        try:
            cfg = compatibility.load_config(path)
        except ImportError as error:
            unread[name] = str(error).split('\n')[0]
            continue
        backbone = cfg.get('model', {}).get('backbone')
        if backbone:
            backbone = {k: v for k, v in backbone.to_dict().items() if k not in WITHOUT_EFFECT}
            if '.' not in backbone['type']:
                backbone['type'] = f'{cfg.default_scope}.{backbone["type"]}'
            found[name] = backbone
    return found, unread


def _find_fits(network: Network, not_compared: dict[str, str]) -> dict[str, str]:
    """Configs whose backbone takes all of a network -> what is resized for it.

    ``not_compared`` gets configs whose backbone cannot be built here -> why.
    """
    fits: dict[str, str] = {}
    reports: dict[str, LoadReport | str | None] = {}
    for name, options in backbone_configs()[0].items():
        key = repr(options)
        if key not in reports:
            try:
                backbone = _build(options)
                reports[key] = family_of(backbone).compare(backbone, network)
            except CheckpointError:
                reports[key] = None
            except ImportError as error:
                reports[key] = str(error).split('\n')[0]
        report = reports[key]
        if isinstance(report, str):
            not_compared[name] = report
        elif report and not report.differences:
            resized = dict.fromkeys(report.resized.values())
            fits[name] = f'resized: {", ".join(resized)}' if resized else ''
    return fits


def _build(options: dict[str, Any]) -> nn.Module:
    """Without memory, where it can be: mm's Swin reads numbers from tensors while it is built."""
    inner = options.get('backbone') or options  # a wrapper's
    with torch.device('cpu' if 'Swin' in inner['type'] else 'meta'):
        return MODELS.build(dict(options))


def _room(name: str) -> str:
    """Return the first part of a name that says something."""
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
