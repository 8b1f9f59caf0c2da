# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The notebooks, cell by cell at small size, as a reader runs them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ibot_mm.datasets.demo import DemoSettings, make_demo_data
from ibot_mm.models import MaskedVisionTransformer

FOLDER = Path(__file__).parents[1] / 'docs/notebooks'
NOTEBOOKS = sorted(path.name for path in FOLDER.glob('*.ipynb'))
RUNNER = """
import json, os, sys
from pathlib import Path

notebook, folder, changes = sys.argv[1:]
os.chdir(folder)
space = dict(__name__='__main__')
for number, cell in enumerate(json.loads(Path(notebook).read_text())['cells']):
    if cell['cell_type'] == 'code':
        exec(compile(''.join(cell['source']), f'{notebook}, cell {number}', 'exec'), space)
        if 'parameters' in cell['metadata'].get('tags', ()):
            exec(changes, space)
"""
SMALL = {  # a step of a tenth of a second
    'model.backbone.arch': 'tiny', 'model.neck.in_channels': 192,
    'model.backbone.img_size': 16, 'model.backbone.patch_size': 8,
    'model.neck.hidden_channels': 32, 'model.neck.bottleneck_channels': 16,
    'train_dataloader.dataset.pipeline.crops.global_crop_size': 16,
    'train_dataloader.dataset.pipeline.crops.num_local_crops': 0,
    'train_dataloader.dataset.pipeline.masks.patch_size': 8,
    'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': False,
    **{f'val_dataloader.dataset.{part}.pipeline.{option}': 16 for part in ('bank', 'query')
       for option in ('resize.scale', 'crop.crop_size')},
}  # fmt: skip


@pytest.fixture(scope='module')
def execute(call, tmp_path_factory):
    """Run the cells of a notebook in a folder, with other parameters; return what was printed."""
    script = tmp_path_factory.mktemp('script') / 'run.py'
    script.write_text(RUNNER)

    def run(name, folder, **parameters):
        changes = '\n'.join(f'{key} = {value!r}' for key, value in parameters.items())
        return call(script, FOLDER / name, folder, f'from pathlib import *\n{changes}').stdout

    return run


@pytest.fixture(scope='module')
def trained(execute, tmp_path_factory):
    """The folder in which the first notebook trained, and what it printed."""
    folder = tmp_path_factory.mktemp('own_images')
    rng = np.random.default_rng(0)
    for split, number in (('train', 40), ('val', 8)):
        for label in range(2):
            of_class = folder / f'images/{split}/class_{label}'
            of_class.mkdir(parents=True)
            for index in range(number):
                pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(of_class / f'{index}.png')
    printed = execute(
        'own_images.ipynb',
        folder,
        IMAGES=Path('images'),
        OUT=Path('run'),
        EPOCHS=2,
        OPTIONS=SMALL,
        SIDE=16,
        WORKERS=0,
    )
    return folder, printed


def test_three_are_stored_without_outputs():
    assert NOTEBOOKS == ['mask_rcnn.ipynb', 'own_images.ipynb', 'reading_a_run.ipynb']
    for name in NOTEBOOKS:
        cells = json.loads((FOLDER / name).read_text())['cells']
        code = [cell for cell in cells if cell['cell_type'] == 'code']
        assert all(cell['outputs'] == [] and cell['execution_count'] is None for cell in code)
        assert ['parameters'] in [cell['metadata'].get('tags') for cell in code]
        assert cells[0]['cell_type'] == 'markdown'


@pytest.mark.long
def test_own_images(trained):
    folder, printed = trained
    for text in ('small data', '(96, 192)', 'knn top1', "for transformers' ViTModel"):
        assert text in printed
    assert (folder / 'run/huggingface/README.md').exists()
    assert (folder / 'run/health.png').exists()


@pytest.mark.long
def test_reading_a_run(trained, execute):
    folder, _ = trained
    printed = execute('reading_a_run.ipynb', folder, RUN=Path('run'), IMAGES=None, SIDE=16)
    for text in ('loss_cls', 'of the training is done', 'images_seen', 'knn/top1', 'relative'):
        assert text in printed
    page = (folder / 'run/report.html').read_text()
    assert 'Principal components' in page and 'Not on this page' not in page


@pytest.mark.long
def test_mask_rcnn(execute, tmp_path):
    settings = DemoSettings(num_train=10, num_val=10, num_scenes_train=4, num_scenes_val=2)
    data = make_demo_data(tmp_path / 'demo', settings)
    arch = dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384)
    teacher = MaskedVisionTransformer(arch=arch, img_size=32, patch_size=8, mask_token=False)
    state = {f'teacher.backbone.{name}': t for name, t in teacher.state_dict().items()}
    torch.save(dict(state_dict=state, meta={}), tmp_path / 'epoch_1.pth')
    options = {
        'train_cfg.max_epochs': 1, 'train_dataloader.dataset.indices': 4,
        **{f'{split}_dataloader.num_workers': 0 for split in ('train', 'val', 'test')},
        **{f'{split}_dataloader.persistent_workers': False for split in ('train', 'val', 'test')},
    }  # fmt: skip
    printed = execute(
        'mask_rcnn.ipynb',
        tmp_path,
        CHECKPOINT=tmp_path / 'epoch_1.pth',
        DATA=data / 'coco',
        OUT=tmp_path / 'out',
        OPTIONS=options,
    )
    assert 'WindowedVisionTransformer' in printed and 'does not fit' in printed
    assert (tmp_path / 'out/predictions.png').exists()
