# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Find the faults of a config before it costs time. Only tools import this."""

from .check import check_config, describe_faults, stop_at_faults

__all__ = ['check_config', 'describe_faults', 'stop_at_faults']
