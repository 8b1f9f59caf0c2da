# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Two processes with half the batch each train as one process with all of it."""

import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.dist import all_reduce, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from ibot_mm.datasets import stack_samples
from ibot_mm.engine.distributed import finish_processes, prepare_cpu_processes

CONFIG = Path(__file__).parents[2] / 'configs/pretrain/ibot_vits16.py'
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

    def __len__(self):
        return BATCH_SIZE * NUM_STEPS

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


def run(variant, work_dir, launcher='none'):
    """Losses of each step and the final state, the same on all processes."""
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
    cfg.merge_from_dict(VARIANTS[variant])
    cfg.update(work_dir=str(work_dir), experiment_name=f'{variant}{work_dir}', launcher=launcher)
    prepare_cpu_processes(cfg)
    assert cfg.model_wrapper_cfg.gradient_as_bucket_view
    runner, losses = Runner.from_cfg(cfg), Losses()
    crops = Crops()
    runner._train_dataloader = DataLoader(
        crops,
        batch_size=BATCH_SIZE // get_world_size(),
        sampler=DefaultSampler(crops, shuffle=False),
        collate_fn=stack_samples,
    )
    runner.register_hook(losses)
    runner.train()
    model = runner.model.module if get_world_size() > 1 else runner.model
    return dict(model.state_dict(), losses=torch.stack(losses.values))


@pytest.fixture
def double():
    """Adam magnifies the rounding of gradients near 0."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path, call_together, double):
    call_together(__file__, tmp_path)
    for variant in VARIANTS:
        together = torch.load(tmp_path / f'{variant}.pth')
        alone = run(variant, tmp_path / 'alone')
        torch.testing.assert_close(together, alone, rtol=1e-8, atol=1e-10, equal_nan=True)
        finite = alone.pop('losses').isfinite().all(dim=1).tolist()
        assert finite == [step != BAD_STEP or 'overflows' not in variant for step in range(4)]
        assert all(tensor.isfinite().all() for tensor in alone.values())


def main(folder):
    torch.set_default_dtype(torch.float64)
    for variant in VARIANTS:
        state = run(variant, folder / 'together', 'pytorch')
        if is_main_process():
            torch.save(state, folder / f'{variant}.pth')
    finish_processes()


if __name__ == '__main__':
    main(Path(sys.argv[1]))
