# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What weights do not show, where it is told beside them."""

import pytest
import torch
from mmengine.config import Config

from ibot_mm.checkpoint import Checkpoint, load_weights, write_weights
from ibot_mm.checkpoint.metadata import read_metadata

BACKBONE = dict(
    type='ibot_mm.MaskedVisionTransformer',
    arch=dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64),
    img_size=(24, 40),
    patch_size=8,
    norm_cfg=dict(type='LN', eps=1e-5),
)
TOLD = dict(num_heads=4, norm_eps=1e-5, img_size=(24, 40))


def told_by(path):
    values = read_metadata(Checkpoint.open(path))[0]
    return {n: values[n] for n in ('num_heads', 'norm_eps', 'img_size') if values.get(n)}


def text_of(backbone):
    return Config(dict(model=dict(type='ibot_mm.IBOT', backbone=backbone), other=1)).pretty_text


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_config_in_the_file(ending, tmp_path):
    """As mmengine stores it, and as it is published."""
    path = tmp_path / f'x.{ending}'
    write_weights(path, dict(w=torch.zeros(1)), dict(cfg=text_of(BACKBONE)))
    assert told_by(path) == TOLD


def test_arch_by_its_name_tells_no_heads(tmp_path):
    write_weights(tmp_path / 'x.pth', dict(w=torch.zeros(1)), dict(cfg=text_of(dict(arch='base'))))
    assert told_by(tmp_path / 'x.pth') == {}


@pytest.mark.parametrize(
    'content',
    [
        dict(w=torch.zeros(1)),
        dict(w=torch.zeros(1), meta=dict(cfg=None)),
        dict(w=torch.zeros(1), meta='text'),
        dict(w=torch.zeros(1), meta=dict(cfg='model = dict(')),
        dict(w=torch.zeros(1), meta=dict(cfg='model = dict(neck=1)')),
        dict(w=torch.zeros(1), meta=dict(cfg='model = build()')),
        dict(w=torch.zeros(1), meta=dict(cfg='model = dict(backbone=[1, 2])')),
    ],
    ids=str,
)
def test_nothing_is_told(content, save):
    assert told_by(save(content)) == {}


def test_nothing_in_a_config_is_run(save, tmp_path):
    text = f"model = dict(backbone=dict(arch=open({str(tmp_path / 'trace')!r}, 'w')))"
    assert told_by(save(dict(w=torch.zeros(1), meta=dict(cfg=text)))) == {}
    assert not (tmp_path / 'trace').exists()


def test_file_of_the_old_format(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save(
        dict(w=torch.zeros(1), meta=dict(cfg=text_of(BACKBONE))),
        path,
        _use_new_zipfile_serialization=False,
    )
    assert told_by(path) == TOLD


def test_loading_compares_heads_with_the_config_in_the_file(backbone, save):
    content = dict(state_dict=backbone().state_dict(), meta=dict(cfg=text_of(BACKBONE)))
    with pytest.raises(ValueError, match='4 attention heads, the backbone 2: set num_heads=4'):
        load_weights(backbone(), save(content))


@pytest.mark.parametrize('backbone, eps', [
    (dict(type='mmpretrain.VisionTransformer'), 1e-6),
    (dict(type='VisionTransformer', norm_cfg=dict(type='LN')), 1e-5),
    (dict(type='VisionTransformer', num_heads=6), 1e-5),  # mmseg's
    (dict(type='SwinTransformer'), 1e-5),
    (dict(type='ibot_mm.MaskedSwinTransformer'), 1e-6),
], ids=str)  # fmt: skip
def test_eps_that_a_config_leaves_out_is_that_of_the_class(backbone, eps, tmp_path):
    write_weights(tmp_path / 'x.pth', dict(w=torch.zeros(1)), dict(cfg=text_of(backbone)))
    told = read_metadata(Checkpoint.open(tmp_path / 'x.pth'))[0]
    assert (told['norm_eps'], told.get('num_heads')) == (eps, backbone.get('num_heads'))


@pytest.mark.parametrize('name, is_read', [('x.pth', False), ('pytorch_model.bin', True)])
def test_json_of_another_file_is_not_read(name, is_read, tmp_path):
    """Of several files in a folder it tells of those that are named as its library does it."""
    (tmp_path / 'config.json').write_text('{"num_attention_heads": 2, "hidden_act": "quick_gelu"}')
    torch.save(dict(w=torch.zeros(1)), tmp_path / name)
    assert Checkpoint.open(tmp_path / name).config['hidden_act'] == 'quick_gelu'
    torch.save(dict(w=torch.zeros(1)), tmp_path / 'model.safetensors')
    assert bool(Checkpoint.open(tmp_path / name).config) == is_read
