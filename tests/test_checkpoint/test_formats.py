# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The tables: every one can be read in both directions and told from the others."""

import re

import pytest
import torch

from ibot_mm.checkpoint.convert import convert, revert
from ibot_mm.checkpoint.formats import FORMATS
from ibot_mm.checkpoint.recognize import find_networks, recognize

WIDTH = 4
SHAPES = {  # by endings of our names
    'patch_embed.projection.weight': (WIDTH, 3, 2, 2),
    'token': (1, 1, WIDTH),
    'tokens': (1, 2, WIDTH),
    'pos_embed': (1, 5, WIDTH),
    'table': (12, 2),
    'qkv.weight': (3 * WIDTH, WIDTH),
    'qkv.bias': (3 * WIDTH,),
    'w12.weight': (16, WIDTH),
    'w12.bias': (16,),
    'ffn.layers.1.weight': (WIDTH, 8),
    'w3.weight': (WIDTH, 8),
    **{f'{norm}.weight': (WIDTH,) for norm in ('ln1', 'ln2', 'norm', 'gamma1', 'gamma2')},
    'weight': (8, WIDTH),
}
CASES = [(f, gated) for f in FORMATS for gated in ((False, True) if f.gated_rows else (False,))]


def network(format, gated):
    """Weights of all rows of a table under its names, and the same under ours."""
    rows = format.gated_rows if gated else ()
    ours_of_gated = re.compile(r'.*ffn\.(layers|w)')
    rows += tuple(r for r in format.rows if not (gated and ours_of_gated.match(r.ours)))
    theirs, ours = {}, {}
    for row in rows:
        for layer in range(2 if '{layer}' in row.ours else 1):
            for leaf in ('weight', 'bias') if '{leaf}' in row.ours else ('',):
                name = row.ours.format(layer=layer, leaf=leaf)
                if name in ours:
                    continue  # a second way to write the same parameter
                shape = next((s for end, s in SHAPES.items() if name.endswith(end)), (WIDTH,))
                ours[name] = torch.randn(shape)
                parts = [ours[name]]
                if len(row.names) > 1:
                    parts = row.parts.split(ours[name], len(row.names))
                names = [n.format(layer=layer, leaf=leaf) for n in row.names]
                theirs |= zip(names, parts)
    return theirs, ours


@pytest.mark.parametrize('format, gated', CASES, ids=lambda x: getattr(x, 'name', str(x)))
def test_tables_go_both_ways(format, gated):
    theirs, _ = network(format, gated)
    converted = convert(theirs, format)
    assert not converted.unknown and not converted.left_out
    back = revert(converted.state, format, theirs)
    assert set(back) == set(theirs)
    for name, tensor in theirs.items():
        if 'qkv.bias' in name and 'bias_mask' not in name and format.name == 'DINOv3':
            tensor = torch.cat([tensor[:WIDTH], torch.zeros(WIDTH), tensor[-WIDTH:]])
        assert torch.equal(back[name], tensor), name


@pytest.mark.parametrize('format, gated', CASES, ids=lambda x: getattr(x, 'name', str(x)))
def test_formats_are_told_apart(format, gated):
    theirs, _ = network(format, gated)
    if format.name == 'MAE':
        theirs['decoder_embed.weight'] = torch.randn(2, WIDTH)
    for prefix in ('', 'module.backbone.', 'state_dict.teacher.'):
        found = recognize({prefix + name: tensor for name, tensor in theirs.items()})
        assert found.format is format and found.prefix == prefix


def test_names_are_unique():
    assert len({format.name for format in FORMATS}) == len(FORMATS)


@pytest.mark.parametrize('format', FORMATS, ids=lambda format: format.name)
def test_rows_do_not_contradict_each_other(format):
    """No name of a format stands in two rows, but for those of plain and gated networks."""
    for rows in (format.rows, format.gated_rows):
        names = [name for row in rows for name in row.names]
        assert len(names) == len(set(names))


def test_the_target_generator_is_no_network_of_the_checkpoint():
    theirs, _ = network(FORMATS[0], False)
    state = {f'{p}{n}': t for n, t in theirs.items() for p in ('backbone.', 'target_generator.')}
    assert [found.prefix for found in find_networks(state)] == ['backbone.']
