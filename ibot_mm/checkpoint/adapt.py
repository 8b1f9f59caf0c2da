# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Making the weights of a ViT those of a backbone, both under our names, and what prevents it."""

from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, zeros_like

from .architecture import Architecture, ask
from .convert import num_layers, revert
from .locate import CheckpointError
from .names import COMPUTED, ROTARY, Format
from .positions import (
    fit_position_embedding,
    inflate_kernel,
    resample_kernel,
    resize_relative_table,
)
from .recognize import Network, find_networks
from .report import LoadReport, summary
from .specification import PARTS, PATCHES, UNSEEN, Part, part_of

State = dict[str, Tensor]
Advise = Callable[..., str]  # of a part and its value: how a backbone is made to have it
_MAY_BE_ZERO = ('attn.qkv.bias', PATCHES.replace('weight', 'bias'))
_TABLE = 'attn.relative_position_bias_table'
_SHARED_TABLE = 'rel_pos_bias.relative_position_bias_table'
_POSITIONS = {
    'learned': 'set rotary=False (of mmpretrain.BEiTViT use_rel_pos_bias=False and '
    'use_abs_pos_emb=True)',
    'relative': 'only mmpretrain.BEiTViT has such a bias, take it as backbone, with '
    'use_rel_pos_bias=True',
    'learned and relative': 'take mmpretrain.BEiTViT as backbone, with use_rel_pos_bias=True and '
    'use_abs_pos_emb=True',
    ROTARY: "set rotary=True (an option of ibot_mm's backbones)",
}
_OTHER_POSITIONS = "no backbone here has such positions; ibot_mm.TimmVisionTransformer has timm's"


def adapt(
    network: Network,
    theirs: Architecture,
    own: Mapping[str, Tensor],
    ours: Architecture,
    title: str,
    grid: tuple[int, int],
    advice: str = '',
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
        return advice or _option(part, theirs, value)

    fit_patches(source, target, report)
    sizes = _differences_of_size(theirs, ours, source, advise)
    report.differences += sizes
    if not theirs.layer_norm:
        report.differences.append('norms: RMSNorm in the checkpoint, layer norm in the backbone')
    _share_table(source, target)
    _settle_biases(source, target, report)
    if not sizes:  # which are often the cause of the rest
        report.differences += _difference_of_positions(theirs, ours, advice)
        report.differences += _differences_of_parts(theirs, source, target, advise)
    _compare_unseen(theirs, ours, report, advise)
    _resize(source, target, network.format, theirs.grid or grid, grid, report)
    _sort_out(source, target, report)
    weights = {name: tensor for name, tensor in source.items() if name in target}
    report.state = revert(weights, filled.format, own)
    report.loaded = list(report.state)
    return report


def fit_patches(source: State, target: Mapping[str, Tensor], report: LoadReport) -> None:
    """Resample the kernel of the patch embedding to other patches and channels, and say so."""
    kernel, wanted = source[PATCHES], target[PATCHES].shape
    changes = []
    if kernel.shape[1] == 3 != wanted[1]:
        changes.append(f'from RGB to {wanted[1]} channels')
        kernel = inflate_kernel(kernel, wanted[1])
    if kernel.shape[2:] != wanted[2:]:
        old, new = (' x '.join(map(str, shape[2:])) for shape in (kernel.shape, wanted))
        changes.append(f'from {old} to {new} pixels')
        kernel = resample_kernel(kernel, (wanted[2], wanted[3]))
    if changes:
        source[PATCHES] = kernel
        report.resized[PATCHES] = ', '.join(changes)


def _option(part: Part, architecture: Architecture, value: Any = None) -> str:
    """How a backbone is made to have a part as an architecture has it."""
    if part.advice:
        return part.advice.format(number=value)
    options = part.option(architecture) if part.option else {}
    if 'arch' in options:
        return f'set {_written(options["arch"])} in arch'
    return f'set {_written(options)}'


def _differences_of_size(
    theirs: Architecture, ours: Architecture, source: State, advise: Advise
) -> list[str]:
    """Differences of depth, width and the like, each with the option that ends it."""
    found = []
    for part in (part for part in PARTS if part.size):
        value, wanted = theirs.values[part.name], ours.values[part.name]
        if part.name == 'in_channels':
            value = source[PATCHES].shape[1]  # which may have been inflated
        both = not part.parameters or (value and wanted)
        hidden = part.name == 'hidden' and theirs.gated != ours.gated
        if value != wanted and both and not hidden:
            words = f'{part.title}: {value} in the checkpoint, {wanted} in the backbone'
            found.append(f'{words}; {advise(part, value)}')
    return found


def _differences_of_parts(
    theirs: Architecture, source: State, target: Mapping[str, Tensor], advise: Advise
) -> list[str]:
    """Parts that only one has, positions apart, each with the option that ends it."""
    found = []
    for name, part in _parts(name for name in source if name not in target).items():
        if not _is_left_out(name, target) and part.name != 'grid':
            way_out = advise(part, theirs.values[part.name])
            found.append(f'the checkpoint has {part.title}, the backbone has none: {way_out}')
    for part in _parts(name for name in target if name not in source).values():
        lacking = part.lacking
        if lacking is None:
            lacking = advise(replace(part, advice='')) if part.option else ''
        if lacking and not part.may_start_new and part.name != 'grid':
            found.append(f'the backbone has {part.title}, the checkpoint has none: {lacking}')
    return found


def _parts(names: Any) -> dict[str, Part]:
    """Return the first name of each part."""
    found: dict[str, tuple[str, Part]] = {}
    for name in names:
        if part := part_of(name):
            found.setdefault(part.name, (name, part))
    return dict(found.values())


def _difference_of_positions(theirs: Architecture, ours: Architecture, advice: str) -> list[str]:
    """Describe how networks differ in knowing where a patch is, with the option that ends it."""
    source, target = theirs.positions, ours.positions
    if 'rotary' in theirs.unclear or (source == target and source != 'of an unknown kind'):
        return []
    return [
        f'the positions in the checkpoint are {source}, in the backbone {target}: '
        f'{advice or _POSITIONS.get(source, _OTHER_POSITIONS)}'
    ]


def _compare_unseen(
    theirs: Architecture, ours: Architecture, report: LoadReport, advise: Advise
) -> None:
    """Compare what weights do not show: heads, activation, the eps of norms."""
    for part in UNSEEN:
        value, wanted = theirs.values[part.name], ours.values[part.name]
        source = theirs.sources.get(part.name, '')
        told = not source.startswith(('usual', 'not told')) or part.name == 'rotary'
        if part.name in theirs.unclear:
            report.differences.append(f'{ask(part.name)} ({theirs.unclear[part.name]})')
        elif not told:
            if value in (wanted, None):
                report.assumed.append(f'{_words(part, wanted)}, {source}')
            else:
                report.notes.append(
                    f'Nothing in the file tells its {part.title}: the backbone has {wanted}, '
                    f'{value} is {source}.'
                )
        elif part.name == 'norm_eps':
            if abs(value - wanted) > 2e-6:
                report.notes.append(
                    f'Norms of its network have an eps of {value}, those of the backbone '
                    f"{wanted}: set norm_cfg=dict(type='LN', eps={value})."
                )
        elif part.name != 'rotary' and value != wanted:  # which is compared with the positions
            report.differences.append(
                f'the checkpoint has {_words(part, value)}, the backbone {wanted}: '
                f'{advise(part, value)}'
            )


def compare_told(
    told: Mapping[str, tuple[Any, str]], ours: Mapping[str, Any], report: LoadReport
) -> None:
    """Compare what is told of a network with a backbone that has the same tensors.

    Args:
        told: Name of a part that tensors do not show -> value, and what tells it.
        ours: Name of a part -> value in the backbone.
        report: Gets the differences.
    """
    for part in UNSEEN:
        (value, source), wanted = told.get(part.name, (None, '')), ours.get(part.name)
        if value is None or wanted is None or value == wanted:
            continue
        words = f'{part.title}: {value or "none"} in the checkpoint, {source}, {wanted or "none"} '
        if part.name != 'norm_eps':
            report.differences.append(f'{words}in the backbone')
        elif abs(value - wanted) > 2e-6:
            report.notes.append(f'{words}in the backbone.')


def _words(part: Part, value: Any) -> str:
    return f'{value} {part.title}' if type(value) is int else f'{part.title}: {value}'


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
        if name not in target and _is_left_out(name, target):
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


def _is_left_out(name: str, target: Container[str]) -> bool:
    """Whether a parameter of a checkpoint can be left out, which the backbone does not have.

    A backbone without [CLS] is meant for patches only; registers and distillation token go too.
    """
    if name in ('register_tokens', 'dist_token') and 'cls_token' not in target:
        return True
    part = part_of(name)
    return part is not None and part.may_drop


def _written(options: Mapping[str, Any]) -> str:
    """Arguments as one would write them in a config."""

    def value(of: Any) -> str:
        if isinstance(of, dict):
            return f'dict({_written(of)})'
        return repr(of).replace('e-0', 'e-') if isinstance(of, float) else repr(of)

    return ', '.join(f'{name}={value(of)}' for name, of in options.items())
