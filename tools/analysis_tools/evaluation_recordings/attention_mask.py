# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Attention maps: the patches that hold a share of each head's attention."""

from typing import Any

from ibot_mm.functional.attention_mass import most_attended

from .recording import Recording

RECORDS = ('case*.attention', 'case*.mask')
INPUTS = ('case*.attention',)


def replay(recording: Recording) -> dict[str, Any]:
    """Compute which patches we keep."""
    values: dict[str, Any] = {}
    for number, case in enumerate(recording.settings['cases']):
        patches = recording.tensor(f'case{number}.attention')[:, 1:]  # without [CLS]
        kept = most_attended(patches, case['keep'])
        values[f'case{number}.mask'] = kept.unflatten(1, case['grid'])
    return values
