# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Tables of parameter names: a format's on the left, ours on the right, read in both directions.

Ours are those of :class:`ibot_mm.MaskedVisionTransformer` and
:class:`ibot_mm.MaskedSwinTransformer`, which are mmpretrain's. Both columns are templates:
``{layer}`` stands for the index of an encoder layer, ``{stage}`` and ``{block}`` for those of a
Swin, ``{leaf}`` for ``weight`` or ``bias``.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

Table = Mapping[Any, str]  # template, or several that make up one of ours -> ours, see `rows`
ROTARY = 'rotary'  # positions in the form of DINOv3, base 100, which our backbones have
COMPUTED = 'computed, not learned'
_PLACEHOLDERS = {'layer': r'\d+', 'stage': r'\d+', 'block': r'\d+', 'leaf': 'weight|bias'}


class Concatenation:
    """How several tensors of a format are one of ours: along the first dimension."""

    @staticmethod
    def join(tensors: Sequence[Tensor | None]) -> Tensor:
        """Put the parts together; a missing one is zero."""
        present = [tensor for tensor in tensors if tensor is not None]
        if len(tensors) == 1:
            return present[0]
        zero = torch.zeros_like(present[0])
        return torch.cat([zero if tensor is None else tensor for tensor in tensors])

    @staticmethod
    def split(tensor: Tensor, number: int) -> Sequence[Tensor]:
        """Take them apart, the reverse of :meth:`join`."""
        return tensor.chunk(number)


class MaskedKeyBias(Concatenation):
    """DINOv3's bias of queries, keys and values, with a mask that is 0 at the keys'."""

    @staticmethod
    def join(tensors: Sequence[Tensor | None]) -> Tensor:
        """Set the bias at the keys to zero."""
        bias = next(tensor for tensor in tensors if tensor is not None).clone()
        bias.chunk(3)[1].zero_()
        return bias

    @staticmethod
    def split(tensor: Tensor, number: int) -> Sequence[Tensor]:
        """Return the bias and mask."""
        mask = torch.ones_like(tensor)
        mask.chunk(3)[1].zero_()
        return [tensor, mask]


@dataclass(frozen=True)
class Row:
    """One parameter, or one of every layer.

    Args:
        names: Template of its name in the format, or of several names that make up ours.
        ours: Template of our name.
        parts: How several tensors make up ours.
        flat: How many leading dimensions of ours the format does not have: 1 for a token stored as
            (1, D), 2 for one stored as (D,).
    """

    names: tuple[str, ...]
    ours: str
    parts: type[Concatenation] = Concatenation
    flat: int = 0


def rows(
    table: Table,
    prefix: str = '',
    our_prefix: str = '',
    parts: type[Concatenation] = Concatenation,
) -> tuple[Row, ...]:
    """Return the rows of a table.

    Args:
        table: Template in the format, or several that make up one of ours -> our template. ``*``
            stands for ``{leaf}``; ``'mask_token[0]'`` says that theirs is the first of ours, whose
            leading dimension they do not have.
        prefix: In front of all of theirs, such as ``'blocks.{layer}.'``.
        our_prefix: In front of all of ours.
        parts: How several tensors make up ours.
    """
    made = []
    for names, ours in table.items():
        names = (names,) if isinstance(names, str) else names
        ours, _, index = ours.partition('[')
        full = tuple((prefix + name).replace('*', '{leaf}') for name in names)
        made.append(Row(full, (our_prefix + ours).replace('*', '{leaf}'), parts, index.count('0')))
    return tuple(made)


@dataclass(frozen=True)
class Rule:
    """What a format settles of a part that its tensors do not show.

    Args:
        part: Name of the part, see ``ibot_mm.checkpoint.PARTS``.
        value: The part's value; None where it is one thing in some networks and another in others,
            so that it must be told.
        when: Whether the rule holds, given the prefix of a network and the names in it, ours and
            those left out.
        why: Who has which, where ``value`` is None.
    """

    part: str
    value: Any
    when: Callable[[Collection[str]], bool] = lambda names: True
    why: str = ''


@dataclass(frozen=True)
class Format:
    """The parameter names of one library or published code.

    Args:
        name: Short name.
        title: What uses these names, for messages.
        rows: Parameters. Where several give the same one, the first is how it is written.
        gated_rows: Parameters of a gated feed-forward network (SwiGLU), tried before ``rows``
            where the network has one; needed where both kinds share names.
        left_out: Patterns (as of ``fnmatch``) of names that have no counterpart, and what they
            are.
        requires: Names without which a network is not of this format.
        with_positions: Tokens before the patches that have entries in the learned position
            embedding, if the network has them; likely cases first. Names are ours.
        rules: What it settles of parts that tensors do not show; the first rule of a part that
            holds is taken.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    gated_rows: tuple[Row, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    requires: tuple[str, ...] = ()
    with_positions: tuple[tuple[str, ...], ...] = (('cls_token', 'dist_token'), ())
    rules: tuple[Rule, ...] = ()

    @cached_property
    def anchor(self) -> str:
        """The format's name of the patch embedding's weight, by which a network is found."""
        ours = 'patch_embed.projection.weight'
        names = (n for row in self.rows for n in row.names if match(row.ours, ours) is not None)
        return next(names).format(leaf='weight')

    def why_left_out(self, name: str) -> str | None:
        """Say what a name without counterpart is, or None."""
        return next((what for pattern, what in self.left_out if fnmatchcase(name, pattern)), None)

    def explains(self, name: str) -> bool:
        """Tell whether the format knows a name."""
        return find_row(name, self.gated_rows + self.rows) is not None or bool(
            self.why_left_out(name)
        )

    def substitutions(self) -> tuple[tuple[str, str], ...]:
        """Return the rows of a single name for ``re``: pattern of their name, replacement."""
        return tuple(
            (_pattern(row.names[0]).pattern, re.sub(r'\{(\w+)\}', r'\\g<\1>', row.ours))
            for row in self.rows
            if len(row.names) == 1
        )


def match(template: str, name: str) -> dict[str, str] | None:
    """Fit a name to a template.

    Args:
        template: For example ``'blocks.{layer}.norm1.{leaf}'``.
        name: For example ``'blocks.3.norm1.bias'``.

    Returns:
        What the placeholders stand for, here ``{'layer': '3', 'leaf': 'bias'}``; None if the name
        does not fit.
    """
    found = _pattern(template).fullmatch(name)
    return found.groupdict() if found else None


@cache
def _pattern(template: str) -> re.Pattern[str]:
    pattern = re.escape(template).replace(r'\{', '{').replace(r'\}', '}')
    for name, content in _PLACEHOLDERS.items():
        pattern = pattern.replace(f'{{{name}}}', f'(?P<{name}>{content})')
    return re.compile(pattern)


def find_row(name: str, rows: Iterable[Row]) -> tuple[Row, dict[str, str]] | None:
    """Return the row of a format's name, and what its placeholders stand for."""
    for row in rows:
        for template in row.names:
            found = match(template, name)
            if found is not None:
                return row, found
    return None
