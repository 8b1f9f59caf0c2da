# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The page of timm's families is what its tool writes."""

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import timm

pytestmark = pytest.mark.slow

TOP = Path(__file__).parents[2]
PAGE = TOP / 'docs/timm_families.md'


def import_tool():
    spec = spec_from_file_location('tool', TOP / 'tools/analysis_tools/try_timm_families.py')
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


tool = import_tool()


def rows(columns):
    """Rows of the page's table of that many columns, by their models."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        names = [cell for cell in cells if cell.startswith('`')]
        if line.startswith('|') and len(cells) == columns and names:
            found[names[0].strip('`')] = cells
    return found


def test_page_has_all_families():
    assert set(rows(11)) == set(tool.FAMILIES.values())
    assert set(rows(2)) == set(tool.REFUSED)
    tested = re.search(r'^timm==(.*)$', (TOP / 'requirements/pins.txt').read_text(), re.MULTILINE)
    assert f'timm {tested[1]}' in PAGE.read_text()


@pytest.mark.parametrize('name', ['vit_small_patch14_reg4_dinov2', 'beitv2_base_patch16_224'])
def test_family(name):
    """Differences apart, which are rounding errors."""
    row = tool.try_family(name)
    for column in ('As timm', 'Exported'):
        assert float(row.pop(column)) < 1e-5
    assert set(row.values()) <= set(rows(11)[name])


def test_whole_page(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, 'REFUSED', ['resnet50'])
    tool.main(['vit_small_patch16_224', '--out', str(tmp_path / 'page.md')])
    text = (tmp_path / 'page.md').read_text()
    assert f'with timm {timm.__version__}' in text
    assert '| `vit_small_patch16_224` | VisionTransformer | 16 | own | learned |' in text
    assert '| `resnet50` | ResNet is convolutional' in text


def test_what_a_family_does_wrong_stops_the_tool(monkeypatch):
    monkeypatch.setattr(tool.TimmVisionTransformer, '_hide', lambda *args: None)
    with pytest.raises(RuntimeError, match='sees what is masked'):
        tool.try_family('vit_small_patch16_224')
    with pytest.raises(RuntimeError, match='vit_small_patch16_224 can serve'):
        tool.try_refused('vit_small_patch16_224')
