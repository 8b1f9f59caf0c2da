# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""One page about trainings: what was trained, how it went, what it reached, how to use it."""

from .page import write_report
from .run import Run, read_run

__all__ = ['Run', 'read_run', 'write_report']
