# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Recorded runs of the published code, replayed by the tool that users have."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TOP = Path(__file__).parents[2]


@pytest.mark.parametrize(
    'name, dtype, bound, options',
    [
        ('shared_head', 'float64', 1e-9, []),
        ('shared_head', 'float32', 1e-4, []),
        ('shared_head', 'float64', 1e-9, ['model.backbone.with_cp=True']),
        ('shared_head', 'float64', 1e-9, ['model.pack_crops=True']),
        # Separate heads in the student only, batch norm. Not in float32: biases before a batch norm
        # have no gradient but rounding, which Adam scales up.
        ('separate_heads_batch_norm', 'float64', 1e-9, []),
        # Swin: local crops that no window and no merging divides, masks from the second epoch, free
        # gain.
        ('swin_padded', 'float64', 1e-9, []),
    ],
)
def test_replay(call, name, dtype, bound, options):
    result = call(
        'tools/analysis_tools/replay_reference.py', f'tests/data/trajectory_{name}.npz',
        '--dtype', dtype, *(['--cfg-options', *options] if options else []),
    )  # fmt: skip
    match = re.search(r'^worst relative error: (\S+)$', result.stdout, re.MULTILINE)
    assert float(match[1]) <= bound, result.stdout
    for quantity in ('loss_patch', 'center_patch', 'grad_norms', 'final student', 'final teacher'):
        assert quantity in result.stdout
