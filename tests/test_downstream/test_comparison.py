# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Pre-trained against random weights by the tool, and pictures of what both predict."""

import json

import pytest
from PIL import Image

from .conftest import CONFIGS

TOP = CONFIGS.parent
ARCH = dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384)
SPLITS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


@pytest.mark.long
@pytest.mark.parametrize(
    'name, data, options, last, metric',
    [
        (
            'det/mask_rcnn_vit_windowed_demo',
            'coco',
            [
                'train_cfg.max_epochs=1',
                'train_cfg.val_interval=1',
                'default_hooks.checkpoint.interval=1',
                'val_evaluator.ann_file={root}/annotations/instances_val.json',
                'test_evaluator.ann_file={root}/annotations/instances_val.json',
            ],
            'epoch_1.pth',
            'coco/bbox_mAP',
        ),
        (
            'seg/upernet_vit_windowed_demo',
            'ade',
            [
                'train_cfg.max_iters=2',
                'train_cfg.val_interval=2',
                'default_hooks.checkpoint.interval=2',
            ],
            'iter_2.pth',
            'mIoU',
        ),
    ],
)
def test_compare_and_draw(
    name, data, options, last, metric, demo_data, save_checkpoint, tmp_path, call
):
    config, root = CONFIGS / f'{name}.py', demo_data / data
    overrides = [
        '--cfg-options',
        *(option.format(root=root) for option in options),
        *(f'{split}.dataset.data_root={root}/' for split in SPLITS),
        'train_dataloader.dataset.indices=4',
    ]
    checkpoint = save_checkpoint(arch=ARCH, img_size=32, patch_size=8)
    checkpoint = checkpoint.rename(checkpoint.with_name('given.pth'))
    call(
        *('tools/analysis_tools/compare_initialization.py', config, '--checkpoint', checkpoint),
        *('--work-dir', tmp_path, *overrides),
    )
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert set(metrics) == {'pretrained', 'scratch'}
    assert all(metric in values for values in metrics.values())
    logs = {run: next((tmp_path / run).glob('*/*.log')).read_text() for run in metrics}
    assert {run: checkpoint.name in log for run, log in logs.items()} == {
        'pretrained': True,
        'scratch': False,
    }

    columns = [f'{run}={tmp_path / run / last}' for run in metrics]
    picture = tmp_path / 'pictures' / 'predictions.png'
    call(
        *('tools/analysis_tools/visualize_predictions.py', config, *columns, '--num-images', 2),
        *('--out', picture, *overrides),
    )
    width, height = Image.open(picture).size
    assert width > height > 200  # three columns, two rows
