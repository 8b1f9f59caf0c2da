# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What keeps the weights of a ViT from being those of a backbone, and how to end it."""

from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from .architecture import Architecture, ask
from .names import ROTARY
from .report import LoadReport
from .specification import PARTS, PATCHES, UNSEEN, Part, part_of

State = Mapping[str, Tensor]
Advise = Callable[..., str]  # of a part and its value: how a backbone is made to have it
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


def option_of(part: Part, architecture: Architecture, value: Any = None) -> str:
    """Say how a backbone is made to have a part as an architecture has it."""
    if part.advice:
        return part.advice.format(number=value)
    options = part.option(architecture) if part.option else {}
    if 'arch' in options:
        return f'set {_written(options["arch"])} in arch'
    return f'set {_written(options)}'


def differences_of_size(
    theirs: Architecture, ours: Architecture, source: State, advise: Advise
) -> list[str]:
    """List differences of depth, width and the like, each with the option that ends it."""
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


def differences_of_parts(
    theirs: Architecture, source: State, target: Mapping[str, Tensor], advise: Advise
) -> list[str]:
    """List the parts that only one has, positions apart, each with the option that ends it."""
    found = []
    for name, part in _parts(name for name in source if name not in target).items():
        if not is_left_out(name, target) and part.name != 'grid':
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


def differences_of_positions(theirs: Architecture, ours: Architecture, advice: str) -> list[str]:
    """Describe how networks differ in knowing where a patch is, with the option that ends it."""
    source, target = theirs.positions, ours.positions
    if 'rotary' in theirs.unclear or (source == target and source != 'of an unknown kind'):
        return []
    return [
        f'the positions in the checkpoint are {source}, in the backbone {target}: '
        f'{advice or _POSITIONS.get(source, _OTHER_POSITIONS)}'
    ]


def compare_unseen(
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


def is_left_out(name: str, target: Container[str]) -> bool:
    """Tell whether a parameter of a checkpoint can be left out, which the backbone does not have.

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
