# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Arguments of every tool that takes a checkpoint: which network of it is meant."""

import argparse
from typing import Any

from mmengine.config import DictAction


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--network``, ``--prefix`` and ``--assume``.

    Args:
        parser: Of a tool.
    """
    parser.add_argument(
        '--network', choices=['teacher', 'student'], default='teacher', help='default: teacher'
    )
    parser.add_argument('--prefix', help='names of the wanted network begin so, if not by its role')
    parser.add_argument(
        '--assume',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='what nothing in the file tells: num_heads=12, activation=quick_gelu, ...',
    )


def network_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return what was given for them, as :func:`load_weights` and the like take it."""
    return dict(network=args.network, prefix=args.prefix, assume=args.assume)
