# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A training of four steps, on data that need no draw, that any number of processes does alike."""

import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset
from yapf.yapflib import yapf_api

from ibot_mm.datasets import stack_samples
from ibot_mm.engine.distributed import prepare_cpu_processes

CONFIG = Path(__file__).parents[1] / 'configs/pretrain/ibot_vits16.py'
BATCH_SIZE, NUM_STEPS, BAD_STEP = 6, 4, 1
SPOILT = {
    'default_hooks.finite_loss': dict(type='ibot_mm.SkipBadStepsHook', interval=2),
    'custom_hooks': [dict(type='SpoilLastProcess')],
}
VARIANTS = {
    'default': {},
    'Sinkhorn': {'model.head.centering': 'sinkhorn', 'model.head.patch_centering': 'sinkhorn'},
    'Sinkhorn, separate MLPs for patches': {
        'model.head.centering': 'sinkhorn',
        'model.head.patch_centering': 'sinkhorn',
        'model.neck.shared_head': False,
        'model.neck.shared_mlp': False,
    },
    'synchronized batch norm': {'model.neck.norm_cfg': dict(type='ibot_mm.SyncBN')},
    'accumulated, checkpointed, frozen': {
        'optim_wrapper.accumulative_counts': 2,
        'model.backbone.with_cp': True,
        'default_hooks.prototypes.epochs': 1,
    },
    'one process overflows': SPOILT,
    'one process overflows, accumulated': {**SPOILT, 'optim_wrapper.accumulative_counts': 2},
    'one process overflows, not fused': {**SPOILT, 'optim_wrapper.optimizer.fused': False},
}


class Crops(Dataset):
    """Crops and masks that need no draw; every third image has no mask."""

    def __init__(self, batch_size):
        self.batch_size = batch_size

    def __len__(self):
        return self.batch_size * NUM_STEPS

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        masks = torch.rand(2, 4, 4, generator=generator) < 0.1 * (index % 3) * (1 + index % 5)
        shapes = dict(global_crops=(2, 3, 16, 16), local_crops=(2, 3, 8, 8))
        crops = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        return dict(inputs=dict(crops, masks=masks))


@HOOKS.register_module()
class SpoilLastProcess(Hook):
    """Makes a pixel of one image infinite, in one step, where the last process sees it."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == BAD_STEP and get_rank() == get_world_size() - 1:
            data_batch['inputs']['global_crops'][-1, -1, -1, -1, -1] = float('inf')


class Losses(Hook):
    """Keeps each step's losses, averaged over the processes."""

    def __init__(self):
        self.values = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        values = torch.stack([outputs['loss_cls'].detach(), outputs['loss_patch'].detach()])
        all_reduce(values, op='mean')
        self.values.append(values)


def prepare_process():
    """Compute in float64, since Adam magnifies the rounding of gradients near 0; no layout."""
    torch.set_default_dtype(torch.float64)
    yapf_api.FormatCode = lambda text, **kwargs: (text, True)  # a second for each config


def run(changes, work_dir, *hooks, launcher='none', batch_size=BATCH_SIZE):
    """The runner after a training, and the losses of each step, the same on all processes."""
    cfg = Config.fromfile(CONFIG)
    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    cfg.model.backbone.update(arch=arch, img_size=16, patch_size=4, drop_path_rate=0.0)
    cfg.model.neck.update(
        in_channels=16, num_prototypes=24, hidden_channels=16, bottleneck_channels=8
    )
    cfg.model.head.num_prototypes = 24
    cfg.model.data_preprocessor = dict(type='ibot_mm.MultiCropPreprocessor')
    cfg.optim_wrapper.type = 'ibot_mm.PerParameterClipOptimWrapper'
    cfg.param_scheduler[0].warmup = 0
    cfg.train_cfg.max_epochs = 1
    cfg.default_hooks.temperature.warmup_epochs = 1
    cfg.default_hooks.prototypes.epochs = 0
    cfg.default_hooks.checkpoint = None
    for name in ('val', 'test'):
        cfg[f'{name}_dataloader'] = cfg[f'{name}_cfg'] = cfg[f'{name}_evaluator'] = None
    cfg.merge_from_dict(changes)
    cfg.update(work_dir=str(work_dir), experiment_name=f'{work_dir} {time.time_ns()}')
    cfg.launcher = launcher
    prepare_cpu_processes(cfg)
    runner, losses = Runner.from_cfg(cfg), Losses()
    crops = Crops(batch_size)
    runner._train_dataloader = DataLoader(
        crops,
        batch_size=batch_size // get_world_size(),
        sampler=DefaultSampler(crops, shuffle=False),
        collate_fn=stack_samples,
    )
    for hook in (losses, *hooks):
        runner.register_hook(hook)
    runner.train()
    return runner, torch.stack(losses.values)


def state_of(runner, losses):
    """These losses and the final state."""
    model = runner.model.module if get_world_size() > 1 else runner.model
    return dict(model.state_dict(), losses=losses)
