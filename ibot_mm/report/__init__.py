# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Pages about trainings and weights: what was trained, how it went, what it reached, its use."""

from .card import write_export_and_card
from .page import write_report
from .run import Run, read_run

__all__ = ['Run', 'read_run', 'write_export_and_card', 'write_report']
