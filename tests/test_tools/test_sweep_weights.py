# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights of other libraries are loaded to equal features, or refused by name."""

import runpy
from pathlib import Path

import pytest
import timm

TOP = Path(__file__).parents[2]
TOOL = runpy.run_path(str(TOP / 'tools/analysis_tools/sweep_weights.py'))

# Names whose function the tensors do not show, and what must be said of a bare file.
TRACELESS = {
    'vit_base_patch16_rope_reg1_gap_256': 'its positions are of an unknown kind',
    'vit_pe_core_base_patch16_224': 'rotary position embedding: say it by assume=dict',
    'vit_base_patch16_clip_quickgelu_224': 'activation of the feed-forward network: say it',
    'vit_base_patch16_clip_224': 'activation of the feed-forward network: say it',
    'vit_so400m_patch14_siglip_gap_224': 'assume=dict',
    'vit_base_patch16_rpn_224': 'assume=dict',
    'vit_small_patch16_rope_ape_224': 'rotary position embedding: say it by assume=dict',
    'eva02_enormous_patch14_clip_224': 'assume=dict(post_norm=False or True)',
    'aimv2_large_patch14_224': 'its norms are RMSNorm',
}


@pytest.mark.parametrize('name', TRACELESS)
def test_a_bare_file_of_timm_is_not_guessed(name):
    (outcome,) = TOOL['sweep_timm']([name])
    assert TRACELESS[name] in outcome.bare and outcome.told


@pytest.mark.parametrize('name', ['vit_base_patch16_224', 'vit_small_patch14_reg4_dinov2'])
def test_plain_ones_are_loaded(name):
    (outcome,) = TOOL['sweep_timm']([name])
    assert outcome.bare == outcome.told == 'loaded'


@pytest.mark.long
def test_every_plain_vit_of_timm():
    """The sweep raises where tokens differ without a word; the page in the docs names all."""
    outcomes = TOOL['sweep_timm']()
    assert len(outcomes) > 200 and sum(o.told == 'loaded' for o in outcomes) > 100
    page = (TOP / 'docs/weights_sweep.md').read_text()
    if f'timm {timm.__version__}' in page:
        assert TOOL['table'](outcomes) in page


@pytest.mark.long
def test_vits_of_transformers():
    outcomes = TOOL['sweep_transformers']()
    assert sum(outcome.told == 'loaded' for outcome in outcomes) >= 18
