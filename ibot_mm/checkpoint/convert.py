# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights of any known format under our names, and back."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from .locate import CheckpointError
from .names import Format, Row, find_row, match

State = Mapping[str, Tensor]
PATCHES = 'patch_embed.projection.weight'
_VECTORS = re.compile(r'(^|[._])(ln\d|norm\d*|gamma\d)\.weight$')
TOKENS = ('cls_token', 'dist_token', 'register_tokens', 'mask_token')


@dataclass
class Converted:
    """Weights under our names.

    Args:
        state: Our name -> tensor; tokens have shape (1, number, D).
        left_out: Name in the format -> what it is; nothing of ours corresponds to it.
        unknown: Names that the format does not have, or whose tensors no network can have: whole
            numbers, another number of dimensions.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def convert(state_dict: State, format: Format) -> Converted:
    """Rename the weights of a network to ours, and join what is one tensor here.

    Args:
        state_dict: Weights of one network, names without prefix.
        format: Whose names they are, as from :func:`recognize`.

    Raises:
        CheckpointError: If a part of a tensor is missing, such as the keys' projection.
    """
    rows = _rows_of(state_dict, format)
    converted = Converted()
    parts: dict[str, tuple[Row, dict[str, Tensor | None]]] = {}
    for name, tensor in state_dict.items():
        place = find_row(name, rows)
        if not tensor.numel():
            converted.left_out[name] = 'empty'
        elif place:
            row, found = place
            names = dict.fromkeys(part.format(**found) for part in row.names)
            parts.setdefault(row.ours.format(**found), (row, names))[1][name] = tensor
        elif what := format.why_left_out(name):
            converted.left_out[name] = what
        else:
            converted.unknown.append(name)
    for ours, (row, tensors) in parts.items():
        _check_parts(ours, tensors)
        try:
            joined = _join(ours, row, tensors)
        except (RuntimeError, IndexError):  # shapes that do not go together
            joined = None
        if joined is not None and _is_parameter(ours, joined):
            converted.state[ours] = joined
        else:
            converted.unknown += [name for name, part in tensors.items() if part is not None]
    return converted


def _is_parameter(ours: str, tensor: Tensor) -> bool:
    """Whether a tensor can be what is called so: floating, of so many dimensions."""
    if ours.endswith('relative_position_index'):  # computed
        return True
    if ours == 'pos_embed' or ours in TOKENS:
        dimensions = {3, 4} if ours == 'pos_embed' else {3}
    elif ours.endswith('bias') or _VECTORS.search(ours):
        dimensions = {1}
    else:
        dimensions = {4} if ours == PATCHES else {2}
    return tensor.is_floating_point() and tensor.ndim in dimensions


def revert(state_dict: State, format: Format, like: State) -> dict[str, Tensor]:
    """Give weights the names, and tensors their form, in another format.

    Args:
        state_dict: Weights under our names.
        format: Whose names are wanted.
        like: A network of that format: its names and shapes. Of several names for the same
            tensor, those are taken that it has.

    Returns:
        Weights under names of ``like``.
    """
    reverted: dict[str, Tensor] = {}
    for row in _rows_of(like, format):
        for ours, tensor in state_dict.items():
            found = match(row.ours, ours)
            if found is None:
                continue
            names = [name.format(**found) for name in row.names]
            for name, part in zip(names, _split(row, tensor)):
                if name in like and name not in reverted:
                    same_size = part.numel() == like[name].numel()
                    reverted[name] = part.reshape(like[name].shape) if same_size else part
    return reverted


def express(state_dict: State, format: Format) -> dict[str, Tensor]:
    """Write weights in another format where there is no network of it to look at.

    Args:
        state_dict: Weights under our names.
        format: Whose names are wanted; of several ways to write a parameter, the first is taken.

    Returns:
        Weights under names of the format; none shares memory with another.

    Raises:
        CheckpointError: If the format has no place for a parameter.
    """
    expressed: dict[str, Tensor] = {}
    for ours, tensor in state_dict.items():
        places = ((row, match(row.ours, ours)) for row in format.gated_rows + format.rows)
        row, found = next((place for place in places if place[1] is not None), (None, None))
        if row is None or found is None:
            raise CheckpointError(f"{format.title} has no place for '{ours}'")
        for name, part in zip(row.names, _split(row, tensor)):
            part = part.flatten(0, row.flat) if row.flat else part
            expressed[name.format(**found)] = part.clone()
    return expressed


def num_layers(names: Iterable[str]) -> int:
    """Return the number of encoder layers, by our names."""
    found = (re.match(r'layers\.(\d+)\.', name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _split(row: Row, tensor: Tensor) -> Sequence[Tensor]:
    return row.parts.split(tensor, len(row.names))


def _check_parts(ours: str, parts: dict[str, Tensor | None]) -> None:
    missing = [name for name, part in parts.items() if part is None]
    if missing and ours.endswith('weight'):
        raise CheckpointError(
            f'it is not complete: it has some of {", ".join(parts)} and lacks {", ".join(missing)}'
        )


def _join(ours: str, row: Row, parts: dict[str, Tensor | None]) -> Tensor:
    tensor = row.parts.join(list(parts.values()))
    if ours in TOKENS or ours == 'pos_embed' and row.flat:
        return tensor.reshape(1, -1, tensor.shape[-1])
    return tensor


def _rows_of(state_dict: State, format: Format) -> tuple[Row, ...]:
    return format.gated_rows + format.rows if _is_gated(state_dict, format) else format.rows


def _is_gated(state_dict: State, format: Format) -> bool:
    """Whether the feed-forward network is gated, by names of such only or by its shapes."""
    if not format.gated_rows:
        return False
    plain = {name for row in format.rows for name in row.names}
    of_gated_only = {name for row in format.gated_rows for name in row.names} - plain
    if any(match(template, name) is not None for template in of_gated_only for name in state_dict):
        return True
    weights = {}
    for row in format.rows:
        if row.ours.startswith('layers.{layer}.ffn.layers'):
            name = row.names[0].format(layer=0, leaf='weight')
            weights[row.ours] = state_dict.get(name)
    up, down = weights.values()
    # Values and gates in one tensor: twice as many channels as the second layer takes.
    if up is None or down is None or {up.ndim, down.ndim} != {2}:
        return False
    return up.shape[0] == 2 * down.shape[1]
