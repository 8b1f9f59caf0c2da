# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cyclopts import App, Parameter

from ibot_mm.version import __version__

app = App(
    name='ibot-mm',
    version=__version__,
    help='iBOT pre-training: features for your own images. Each command has a --help.',
    help_format='markdown',
    default_parameter=Parameter(negative=()),
)


@contextmanager
def advice() -> Iterator[None]:
    """Turn errors that a user can do something about into one line and the exit status 1."""
    try:
        yield
    except (ValueError, OSError, ImportError, MemoryError) as error:
        raise SystemExit(f'ibot-mm: {error}') from error


def read_options(words: Sequence[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` as mm's tools do.

    Raises:
        ValueError: If a word is not of this form.
    """
    from mmengine.config import DictAction

    if wrong := [word for word in words if '=' not in word]:
        raise ValueError(f'{wrong[0]!r} is not KEY=VALUE, such as model.head.cls_weight=1.0')
    parser = argparse.ArgumentParser()
    parser.add_argument('options', nargs='*', action=DictAction)
    return parser.parse_args(list(words)).options or {} if words else {}
