# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The console command ``ibot-mm``: thin commands over what Python has by the same names."""

from collections.abc import Sequence

from .application import app
from .checkpoints import convert, export, list_known
from .measure import diagnose, embed, evaluate
from .pack import pack, unpack, verify
from .pretrain import pretrain
from .report import report

__all__ = [
    'app',
    'convert',
    'diagnose',
    'embed',
    'evaluate',
    'export',
    'list_known',
    'main',
    'pack',
    'report',
    'unpack',
    'verify',
]
for command in (
    *(pretrain, embed, evaluate, diagnose, report, export, convert),
    *(pack, unpack, verify),
):
    app.command(command)
app.command(list_known, name='list')
app.register_install_completion_command()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        arguments: Defaults to None, those of the command line.
    """
    app(None if arguments is None else list(arguments))
