# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Making the weights of a checkpoint those of a backbone, both under our names."""

from torch import Tensor, zeros_like

from .compare import difference_of_positions, differences_of_parts, differences_of_size
from .errors import CheckpointError
from .formats import Format
from .parts import is_left_out, part_of
from .recognize import num_layers
from .report import LoadReport, summary
from .resize import fit_position_embedding, resize_relative_table

State = dict[str, Tensor]
MAY_BE_ZERO = ('attn.qkv.bias', 'patch_embed.projection.bias')
TABLE = 'attn.relative_position_bias_table'
SHARED_TABLE = 'rel_pos_bias.relative_position_bias_table'


def fit(
    weights: State,
    format: Format,
    target: State,
    grid: tuple[int, int],
    rotary: bool,
    report: LoadReport,
) -> State:
    """Change weights into such as the backbone has, and note in the report what was done.

    Args:
        weights: Of the checkpoint, under our names.
        format: Of the checkpoint.
        target: Weights of the backbone under our names.
        grid: Patches (h, w) of the images that the backbone's position embedding is for.
        rotary: Whether the backbone has rotary position embedding.
        report: Gets everything but ``loaded``; what keeps weights from being loaded goes to
            ``differences``.

    Returns:
        The weights to load: names of ``target`` and its shapes.
    """
    source = dict(weights)
    sizes = differences_of_size(source, target)
    report.differences += sizes
    _share_table(source, target)
    _settle_biases(source, target, report)
    if not sizes:  # which are often the cause of the rest
        report.differences += difference_of_positions(source, target, format.rotary, rotary)
        report.differences += differences_of_parts(source, target)
    _resize(source, target, format, grid, report)
    _sort_out(source, target, report)
    return {name: tensor for name, tensor in source.items() if name in target}


def _share_table(source: State, target: State) -> None:
    """BEiT pre-trains with one table for all layers and fine-tunes one of each."""
    if SHARED_TABLE in source and SHARED_TABLE not in target:
        names = [f'layers.{i}.{TABLE}' for i in range(num_layers(source))]
        if all(name in target for name in names):
            table = source.pop(SHARED_TABLE)
            source |= {name: table.clone() for name in names}


def _settle_biases(source: State, target: State, report: LoadReport) -> None:
    """No bias is a bias of zero."""
    for ending in MAY_BE_ZERO:
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
    source: State, target: State, format: Format, grid: tuple[int, int], report: LoadReport
) -> None:
    try:
        if 'pos_embed' in source and 'pos_embed' in target:
            grids = fit_position_embedding(source, target, format.with_positions, grid)
            if grids:
                (h, w), (new_h, new_w) = grids
                report.resized['pos_embed'] = f'{h} x {w} to {new_h} x {new_w} patches'
        for name in [n for n in source if n.endswith('relative_position_bias_table')]:
            if name in target and len(source[name]) != len(target[name]):
                source[name] = resize_relative_table(source[name], grid)
                report.resized[name] = f'to {grid[0]} x {grid[1]} patches'
    except CheckpointError as error:
        report.differences.append(str(error))


def _sort_out(source: State, target: State, report: LoadReport) -> None:
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
            (report.new if part and part.lacking is None else report.missing).append(name)
    if report.differences:
        return  # which explain what remains
    if report.unexpected:
        names = summary(report.unexpected)
        report.differences.append(f'the checkpoint has names or shapes without a place: {names}')
    if report.missing:
        names = summary(report.missing)
        report.differences.append(f'the checkpoint is not complete, it lacks {names}')
