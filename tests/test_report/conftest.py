# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Half of a training, as it lies on the disk."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from ibot_mm.recipe import CONFIGS
from ibot_mm.registry import MODELS

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
LOG = """
System environment:
    Python: 3.11.7 (main) [GCC 12]
    CUDA available: True
    GPU 0,1,2,3: NVIDIA Something
    PyTorch: 2.11.0
    GPU number: 4
"""


@pytest.fixture(scope='session')
def template(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    """The demo's config with another rate and a tiny network: logs, a checkpoint, an evaluation."""
    folder = tmp_path_factory.mktemp('runs') / 'template'
    logs = folder / '20260101_000000/vis_data'
    logs.mkdir(parents=True)
    records = []
    for step in range(1, 25):
        values = dict(
            loss_cls=5.5 - step / 20, loss_patch=2.0, cls_entropy=0.5, agreement=step / 50
        )
        records.append(dict(values, lr=1e-3, time=9.0, epoch=step, iter=step, step=step))
        if step % 6 == 0:
            records.append({'knn/top1_k20': 30.0 + step, 'step': step})
    (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, records)))
    (logs.parent / 'run.log').write_text(LOG)

    cfg = Config.fromfile(CONFIGS / 'pretrain/ibot_vit_demo.py')
    cfg.optim_wrapper.optimizer.lr = 0.5
    cfg.model.backbone.arch = ARCH
    cfg.model.neck.in_channels = 32
    for split in ('bank', 'query'):
        cfg.val_dataloader.dataset[split].data_root = str(image_folder)
    cfg.dump(folder / 'config.py')
    torch.manual_seed(0)
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model)
    meta = dict(
        cfg=cfg.pretty_text, epoch=24, iter=1104, images_per_iteration=64, images_seen=70656,
        seed=7, time='20260102_030405', mmengine_version='0.10.12', ibot_mm_version='0.1.0',
        ibot_mm_commit='abc1234',
    )  # fmt: skip
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'epoch_24.pth')

    row = dict(protocol='knn', metric='top1', value=61.25, setting={}, published=None)
    results = dict(
        checkpoint='epoch_24.pth',
        request=dict(protocols=['knn'], data='my/<images>', config=None, baselines=True),
        options=dict(ks=[10, 20], tasks={}),
        summary=dict(teacher=[row], pixels=[row | dict(value=33.0)]),
    )
    (folder / 'evaluation').mkdir()
    (folder / 'evaluation/results.json').write_text(json.dumps(results))
    Image.new('RGB', (4, 3), 'red').save(folder / 'attention.png')
    return folder


@pytest.fixture
def run(template: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(template, tmp_path / 'first & only'))
