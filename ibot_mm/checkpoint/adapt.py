# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Making the weights of a ViT those of a backbone, both under our names."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, zeros_like

from .architecture import Architecture
from .channels import inflate_kernel
from .convert import num_layers, revert
from .differences import (
    compare_unseen,
    differences_of_parts,
    differences_of_positions,
    differences_of_size,
    is_left_out,
    option_of,
)
from .locate import CheckpointError
from .names import COMPUTED, Format
from .positions import (
    fit_position_embedding,
    resample_kernel,
    resize_relative_table,
)
from .recognize import Network, find_networks
from .report import LoadReport, summary
from .specification import PATCHES, Part, part_of

State = dict[str, Tensor]
_MAY_BE_ZERO = ('attn.qkv.bias', PATCHES.replace('weight', 'bias'))
_TABLE = 'attn.relative_position_bias_table'
_SHARED_TABLE = 'rel_pos_bias.relative_position_bias_table'


def adapt(
    network: Network,
    theirs: Architecture,
    own: Mapping[str, Tensor],
    ours: Architecture,
    title: str,
    grid: tuple[int, int],
    advice: str = '',
    inflate: str | Sequence[int | None] = 'repeat',
) -> LoadReport:
    """Change the weights of a network into such as a backbone has, and report what was done.

    Args:
        network: Of the checkpoint.
        theirs: What it is.
        own: State dict of the backbone, of any known format.
        ours: What the backbone is.
        title: Its class.
        grid: Patches (h, w) of the images that the backbone is for.
        advice: How to end a difference. Defaults to '', by the options of our backbones.
        inflate: As of :func:`.channels.inflate_kernel`. Defaults to 'repeat'.

    Returns:
        What would be loaded, with names and shapes of ``own``; what keeps weights from being
        loaded is in ``differences``.
    """
    filled = next(n for n in find_networks(own) if not n.prefix)
    source, target = dict(network.weights.state), filled.weights.state
    extras = [n for n, what in filled.weights.left_out.items() if what != COMPUTED]
    report = LoadReport(
        checkpoint=network.checkpoint.location,
        format=network.format.title,
        network=network.prefix,
        backbone=title,
        unexpected=list(network.weights.unknown),
        left_out=network.left_out(),
        new=[*filled.weights.unknown, *extras],  # such as a pyramid: no checkpoint of a ViT has it
    )

    def advise(part: Part, value: Any = None) -> str:
        return advice or option_of(part, theirs, value)

    fit_patches(source, target, report, inflate)
    sizes = differences_of_size(theirs, ours, source, advise)
    report.differences += sizes
    if not theirs.layer_norm:
        report.differences.append('norms: RMSNorm in the checkpoint, layer norm in the backbone')
    _share_table(source, target)
    _settle_biases(source, target, report)
    if not sizes:  # which are often the cause of the rest
        report.differences += differences_of_positions(theirs, ours, advice)
        report.differences += differences_of_parts(theirs, source, target, advise)
    compare_unseen(theirs, ours, report, advise)
    _resize(source, target, network.format, theirs.grid or grid, grid, report)
    _sort_out(source, target, report)
    weights = {name: tensor for name, tensor in source.items() if name in target}
    report.state = revert(weights, filled.format, own)
    report.loaded = list(report.state)
    return report


def fit_patches(
    source: State,
    target: Mapping[str, Tensor],
    report: LoadReport,
    inflate: str | Sequence[int | None] = 'repeat',
) -> None:
    """Fit the kernel of the patch embedding to other channels and patches, and say so."""
    wanted = target[PATCHES].shape
    kernel, words = inflate_kernel(source[PATCHES], wanted[1], inflate)
    changes = [words] if words else []
    if kernel.shape[2:] != wanted[2:]:
        old, new = (' x '.join(map(str, shape[2:])) for shape in (kernel.shape, wanted))
        changes.append(f'from {old} to {new} pixels')
        kernel = resample_kernel(kernel, (wanted[2], wanted[3]))
    if changes:
        source[PATCHES] = kernel
        report.resized[PATCHES] = ', '.join(changes)


def _share_table(source: State, target: Mapping[str, Tensor]) -> None:
    """BEiT pre-trains with one table for all layers and fine-tunes one of each."""
    if _SHARED_TABLE in source and _SHARED_TABLE not in target:
        names = [f'layers.{i}.{_TABLE}' for i in range(num_layers(source))]
        if all(name in target for name in names):
            table = source.pop(_SHARED_TABLE)
            source |= {name: table.clone() for name in names}


def _settle_biases(source: State, target: Mapping[str, Tensor], report: LoadReport) -> None:
    """No bias is a bias of zero."""
    for ending in _MAY_BE_ZERO:
        theirs = [name for name in source if name.endswith(ending)]
        ours = [name for name in target if name.endswith(ending)]
        if ours and not theirs:
            report.zero += ours
            source |= {name: zeros_like(target[name]) for name in ours}
        elif theirs and not ours and not any(source[name].any() for name in theirs):
            report.left_out['biases, all zero'] = theirs
            for name in theirs:
                del source[name]


def _resize(
    source: State,
    target: Mapping[str, Tensor],
    format: Format,
    guess: tuple[int, int],
    grid: tuple[int, int],
    report: LoadReport,
) -> None:
    try:
        if 'pos_embed' in source and 'pos_embed' in target:
            grids = fit_position_embedding(source, target, format.with_positions, grid, guess)
            if grids:
                (h, w), (new_h, new_w) = grids
                report.resized['pos_embed'] = f'{h} x {w} to {new_h} x {new_w} patches'
        for name in [n for n in source if n.endswith('relative_position_bias_table')]:
            if name in target and len(source[name]) != len(target[name]):
                source[name] = resize_relative_table(source[name], grid)
                report.resized[name] = f'to {grid[0]} x {grid[1]} patches'
    except CheckpointError as error:
        report.differences.append(str(error))


def _sort_out(source: State, target: Mapping[str, Tensor], report: LoadReport) -> None:
    """Take from the source what cannot be loaded, and say what becomes of everything."""
    for name in list(source):
        if name not in target and is_left_out(name, target):
            part = part_of(name)
            report.left_out.setdefault(part.title if part else '', []).append(name)
            del source[name]
        elif name not in target or source[name].shape != target[name].shape:
            report.unexpected.append(name)
            del source[name]
    for name in target:
        if name not in source:
            part = part_of(name)
            (report.new if part and part.may_start_new else report.missing).append(name)
    if report.differences:
        return  # which explain what remains
    if report.unexpected:
        names = summary(report.unexpected)
        report.differences.append(f'the checkpoint has names or shapes without a place: {names}')
    if report.missing:
        names = summary(report.missing)
        report.differences.append(f'the checkpoint is not complete, it lacks {names}')
