# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What became of the weights of a checkpoint."""

import io
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mmengine.logging import print_log
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor


@dataclass
class LoadReport:
    """Which weights were loaded, and what became of the others.

    Args:
        checkpoint: Where the weights came from.
        format: What uses their names.
        network: Prefix of the network within the checkpoint.
        backbone: Class that was filled.
        loaded: Names of the backbone that were filled from the checkpoint.
        resized: Names among them that were resized, and how.
        zero: Names among them that the checkpoint does not have, being zero in its network.
        left_out: What was not loaded on purpose: kind -> names of the checkpoint.
        new: Names of the backbone that keep their initialization, since no checkpoint of a ViT
            has them or they are new in fine-tuning.
        missing: Names of the backbone that the checkpoint should have and does not.
        unexpected: Names of the checkpoint that no known ViT has, or that do not fit.
        differences: Why the two do not fit; empty unless loaded with ``strict=False``.
        notes: Differences that weights do not show.
        assumed: What nothing in the file tells, and is taken to be as the backbone has it.
        state: The weights for the backbone.
    """

    checkpoint: str
    format: str
    network: str
    backbone: str
    loaded: list[str] = field(default_factory=list)
    resized: dict[str, str] = field(default_factory=dict)
    zero: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    new: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    state: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        network = f", network '{self.network}'" if self.network else ''
        table = Table(
            'weights',
            'number',
            'names',
            title=f'{self.checkpoint}\n-> {self.backbone}; names of {self.format}{network}',
            title_justify='left',
            box=box.SIMPLE,
        )
        rows = [
            ('loaded', self.loaded),
            *((f'resized, {how}', [name]) for name, how in self.resized.items()),
            ('zero', self.zero),
            *((f'left out: {what}', names) for what, names in self.left_out.items()),
            ('new', self.new),
            ('missing', self.missing),
            ('unexpected', self.unexpected),
        ]
        for title, names in rows:
            if names or title in ('missing', 'unexpected'):
                table.add_row(title, str(len(names)), summary(names))
        text = io.StringIO()
        Console(file=text, width=120).print(table, markup=False)
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        told = f'Not told by the file, and taken to be so: {"; ".join(self.assumed)}.'
        assumed = [told] if self.assumed else []
        return '\n'.join(['', *lines, *self.differences, *self.notes, *assumed])

    def log(self) -> None:
        """Write the table to mmengine's current logger; as a warning, where something is amiss."""
        amiss = self.missing or self.unexpected or self.differences or self.notes
        print_log(str(self), logger='current', level=logging.WARNING if amiss else logging.INFO)


def summary(names: Iterable[str]) -> str:
    """Shorten names: the same parameter of every layer becomes one, with its number."""
    counts = Counter(re.sub(r'((layers?|blocks)\.)\d+\.', r'\1*.', n, count=1) for n in names)
    return ', '.join(f'{name} ({n})' if n > 1 else name for name, n in counts.items())


def size_of(state: Mapping[str, Tensor]) -> str:
    """Return the number and type of parameters, in words."""
    floating = [tensor for tensor in state.values() if tensor.is_floating_point()]
    types = sorted({str(tensor.dtype).removeprefix('torch.') for tensor in floating})
    return f'{sum(tensor.numel() for tensor in floating):,}, {" and ".join(types)}'
