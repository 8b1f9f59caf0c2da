# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""tools/test.py and visualize_network.py take every checkpoint."""

import runpy
import sys
from pathlib import Path

import pytest
import timm
import torch
import transformers
from mmengine.fileio import load
from mmengine.registry import MODELS
from PIL import Image

from ibot_mm.checkpoint import export_checkpoint, publish, write_export

TOOLS = Path(__file__).parents[2] / 'tools'
TIMM = dict(embed_dim=16, depth=2, num_heads=2, img_size=16, patch_size=4, mlp_ratio=2)
HUGGING_FACE = dict(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    image_size=16,
    patch_size=4,
)
HEADS = ('--assume', 'num_heads=2')  # which no weights tell; tools that take a config know it
# Kind of file, and what a user has to say of it.
FILES = {
    'timm': (),
    'hugging face': (),
    'published iBOT': (),
    'a training': (),
    'published by a tool': (),
    'exported': (),
    'one of several': ('--prefix', 'right'),
    'of six heads': HEADS,
}


def write(kind, model, folder):
    state = timm.create_model('vit_tiny_patch16_224', num_classes=3, **TIMM).state_dict()
    path = folder / 'weights.pth'
    if kind == 'hugging face':
        transformers.ViTModel(transformers.ViTConfig(**HUGGING_FACE)).save_pretrained(folder)
        return folder
    if kind == 'timm':
        content = state
    elif kind == 'of six heads':  # by a config that is not that of the weights
        content = dict(state_dict=state, meta=dict(cfg='model=dict(backbone=dict(num_heads=6))'))
    elif kind == 'one of several':
        content = {f'{side}.{name}': t for side in ('left', 'right') for name, t in state.items()}
    elif kind == 'published iBOT':
        content = {role: {f'module.backbone.{name}': t for name, t in state.items()}
                   for role in ('student', 'teacher')}  # fmt: skip
    else:
        content = dict(state_dict=model.state_dict(), meta=dict(epoch=1))
    torch.save(content, path)
    if kind == 'published by a tool':
        return publish(path, folder / 'weights.safetensors')[0]
    if kind == 'exported':
        export, config, _ = export_checkpoint(path, 'timm', assume=dict(num_heads=2))
        write_export(folder / 'exported.safetensors', export, config)
        return folder / 'exported.safetensors'
    return path


@pytest.mark.slow
@pytest.mark.parametrize('kind', FILES)
def test_every_kind_of_file(kind, tiny_config, tmp_path, monkeypatch):
    tiny_config.model.backbone.drop_path_rate = 0.0
    tiny_config.dump(tmp_path / 'tiny.py')
    (tmp_path / 'weights').mkdir()
    path = write(kind, MODELS.build(tiny_config.model), tmp_path / 'weights')
    given = [str(tmp_path / 'tiny.py'), str(path), *FILES[kind]]

    out = tmp_path / 'metrics.json'
    monkeypatch.setattr(sys, 'argv', ['test.py', *given, '--out', str(out)])
    runpy.run_path(str(TOOLS / 'test.py'))['main']()
    assert set(load(out)) == {f'knn/top{n}_k{k}' for n in (1, 5) for k in (1, 5)}

    picture = tmp_path / 'attention.png'
    main = runpy.run_path(str(TOOLS / 'analysis_tools/visualize_network.py'))['main']
    Image.new('RGB', (16, 24), 'gray').save(tmp_path / 'image.png')
    network = FILES[kind] if '--assume' in FILES[kind] else (*FILES[kind], *HEADS)
    files = [str(path), str(tmp_path / 'image.png')]
    main(['attention', *files, *network, '--image-size', '16', '--out', str(picture)])
    assert picture.stat().st_size > 1000
