# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The demo's continued training at small size, from its own checkpoint and from a published one."""

import json
import re
from pathlib import Path

import pytest
import timm
import torch

from ibot_mm.checkpoint import Checkpoint
from ibot_mm.checkpoint.convert import revert
from ibot_mm.checkpoint.formats import FORMATS
from ibot_mm.checkpoint.recognize import recognize

TOP = Path(__file__).parents[2]
DEMO, CONTINUE = (f'configs/pretrain/ibot_vit{part}_demo.py' for part in ('', '_continue'))


def write_published(source, path):
    """Store the teacher's backbone as the published code does, ``checkpoint_teacher.pth``."""
    network = recognize(Checkpoint.open(source).tensors)
    sizes = dict(img_size=32, patch_size=8, embed_dim=96, depth=4, num_heads=3, num_classes=0)
    like = timm.models.VisionTransformer(**sizes).state_dict()
    published = next(format for format in FORMATS if format.name == 'published')
    state = revert(network.weights.state, published, like)
    assert state.keys() == like.keys()
    torch.save(dict(state_dict=state), path)


@pytest.mark.long
def test_continues_the_demo_at_small_size(tmp_path, call):
    data, out = tmp_path / 'data', tmp_path / 'knn.json'
    call('tools/dataset_converters/make_demo_data.py', '--out', data, '--train', 160, '--val', 80)
    splits = ['train_dataloader.dataset'] + [
        f'{split}_dataloader.dataset.{part}'
        for split in ('val', 'test')
        for part in ('bank', 'query')
    ]
    options = [
        '--cfg-options',
        *(f'{split}.data_root={data}/imagenet' for split in splits),
        *('train_cfg.max_epochs=4', 'train_cfg.val_interval=4', 'param_scheduler.0.warmup=1'),
        *('default_hooks.temperature.warmup_epochs=2', 'default_hooks.logger.interval=1'),
        'default_hooks.checkpoint.interval=4',
    ]
    call('tools/train.py', DEMO, '--work-dir', tmp_path / 'demo', *options)
    start = tmp_path / 'demo/epoch_4.pth'
    call('tools/test.py', DEMO, start, '--out', out, '--work-dir', tmp_path / 'test', *options)
    expected = json.loads(out.read_text())
    write_published(start, tmp_path / 'checkpoint_teacher.pth')

    ends = []
    for checkpoint in (start, tmp_path / 'checkpoint_teacher.pth'):
        work_dir = tmp_path / checkpoint.stem
        where = f'model.backbone.init_cfg.checkpoint={checkpoint}'
        call('tools/train.py', CONTINUE, '--work-dir', work_dir, *options, where)
        log = next(work_dir.glob('*/*.log')).read_text()
        assert log.index('Epoch(val) [0]') < log.index('Epoch(train)')
        found = dict(re.findall(r'^(knn/top\d_k\d+): start ([\d.]+), now', log, re.MULTILINE))
        assert found == {name: f'{value:.4g}' for name, value in expected.items()}
        ends.append(torch.load(work_dir / 'epoch_4.pth', weights_only=False)['state_dict'])
    # The format makes no difference, and something was learned.
    torch.testing.assert_close(*ends, rtol=0, atol=0)
    before = torch.load(start, weights_only=False)['state_dict']
    for name in ('backbone.layers.0.attn.qkv.weight', 'teacher.backbone.layers.0.attn.qkv.weight'):
        assert not torch.equal(ends[0][name], before[name])
