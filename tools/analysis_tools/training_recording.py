# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A recorded training of the published iBOT code: its arrays, its steps as data, and our config."""

import json
import logging
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ibot_mm.checkpoint import to_unfold_order

CONFIGS = Path(__file__).parents[2] / 'configs/pretrain'


class Recording:
    """A recorded run: settings, initial state, steps, final states."""

    def __init__(self, path: str) -> None:
        self.arrays = dict(np.load(path))
        self.settings = json.loads(str(self.arrays['config_json']))
        if self.settings.setdefault('backbone', 'vit') not in BACKBONES:
            raise ValueError(
                f"{path} was recorded with backbone '{self.settings['backbone']}'; only "
                f'{list(BACKBONES)} can be replayed.'
            )

    def state(self, prefix: str) -> dict[str, Tensor]:
        """Tensors in our layout whose names start with a prefix, without it."""
        return to_unfold_order(
            {
                name.removeprefix(prefix): torch.from_numpy(array)
                for name, array in self.arrays.items()
                if name.startswith(prefix)
            }
        )

    def batch(self, step: int, dtype: torch.dtype) -> dict:
        """One step's crops and masks, as the data loader would give them."""
        settings, num_global = self.settings, self.settings['n_global']

        def stack(name: str, numbers: range) -> Tensor:
            arrays = [torch.from_numpy(self.arrays[f'step{step}.{name}{j}']) for j in numbers]
            return torch.stack(arrays, dim=1)

        inputs = dict(
            global_crops=stack('image', range(num_global)).to(dtype),
            masks=stack('mask', range(num_global)),
        )
        if settings['n_local']:
            numbers = range(num_global, num_global + settings['n_local'])
            inputs['local_crops'] = stack('image', numbers).to(dtype)
        return dict(inputs=inputs)


def _vit(settings: dict) -> dict:
    arch = dict(
        embed_dims=settings['dim'],
        num_layers=settings['depth'],
        num_heads=settings['heads'],
        feedforward_channels=4 * settings['dim'],
    )
    return dict(
        arch=arch, patch_size=settings['patch'], layer_scale_init_value=settings['layer_scale']
    )


def _swin(settings: dict) -> dict:
    # The recorded patch is the mask's, the stride of the last stage.
    return dict(
        arch=dict(
            embed_dims=settings['embed_dim'],
            depths=settings['depths'],
            num_heads=settings['num_heads'],
        ),
        patch_size=settings['patch'] // 2 ** (len(settings['depths']) - 1),
        window_size=settings['window_size'],
    )


# Recorded backbone -> our config, and what the recording changes of its backbone.
BACKBONES = dict(vit=('ibot_vits16.py', _vit), swin=('ibot_swint_w7.py', _swin))


def build_config(settings: dict, work_dir: str, options: dict) -> Config:
    """Build the pre-training config with the recorded settings, then with ``options``."""
    config, backbone_settings = BACKBONES[settings['backbone']]
    cfg = Config.fromfile(CONFIGS / config)
    shared, shared_teacher = settings['shared_head'], settings['shared_head_teacher']
    num_patch_prototypes = settings['patch_out_dim']
    if shared or shared_teacher:  # the published code then takes one number for both
        num_patch_prototypes = settings['out_dim']
    norm = {None: None, 'bn': 'BN1d', 'syncbn': 'BN1d', 'ln': 'LN'}[settings['head_norm']]
    cfg.model.backbone.update(
        backbone_settings(settings), img_size=settings['img'], drop_path_rate=0.0
    )
    cfg.model.neck.update(
        in_channels=settings['dim'],
        num_prototypes=settings['out_dim'],
        num_patch_prototypes=num_patch_prototypes,
        shared_head=shared,
        hidden_channels=settings['hidden'],
        bottleneck_channels=settings['bottleneck'],
        num_layers=settings['nlayers'],
        norm_cfg=norm and dict(type=norm),
        act_cfg=dict(type={'gelu': 'GELU', 'relu': 'ReLU'}[settings['act']]),
        norm_last_layer=settings['norm_last_layer'],
    )
    cfg.model.head.update(
        num_prototypes=settings['out_dim'],
        num_patch_prototypes=num_patch_prototypes,
        student_temperature=settings['student_temp'],
        center_momentum=settings['center_momentum'],
        patch_center_momentum=settings['center_momentum'],
        cls_weight=settings['lambda1'],
        patch_weight=settings['lambda2'],
    )
    cfg.model.teacher = dict(
        backbone=dict(mask_token=False),
        neck=dict(shared_head=shared_teacher),
    )
    # Recorded crops are normalized already.
    cfg.model.data_preprocessor = dict(type='ibot_mm.MultiCropPreprocessor')

    cfg.auto_scale_lr.enable = False
    cfg.optim_wrapper.optimizer.update(lr=settings['peak_lr'], weight_decay=settings['wd'])
    clip = settings['clip_grad_per_param']
    cfg.optim_wrapper.type = 'ibot_mm.PerParameterClipOptimWrapper' if clip else 'OptimWrapper'
    cfg.optim_wrapper.clip_grad = dict(max_norm=clip) if clip else None
    rate, decay = cfg.param_scheduler
    rate.update(final=settings['min_lr'], warmup=settings['lr_warmup_epochs'])
    decay.update(final_ratio=settings['wd_end'] / settings['wd'])
    cfg.train_cfg.max_epochs = settings['epochs']
    cfg.default_hooks.temperature.update(
        temperature=settings['teacher_temp'],
        patch_temperature=settings['teacher_patch_temp'],
        warmup_epochs=settings['teacher_temp_warmup_epochs'],
        patch_start_epoch=settings['pred_start_epoch'],
    )
    cfg.default_hooks.prototypes.epochs = settings['freeze_last_layer_epochs']
    cfg.default_hooks.teacher.momentum = settings['momentum']

    cfg.default_hooks.checkpoint = None
    cfg.default_hooks.pop('training_log')  # counts images by the loader's batch size
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.work_dir = work_dir
    cfg.experiment_name = f'replay-{Path(work_dir).name}'
    cfg.log_level = logging.ERROR
    cfg.merge_from_dict(options)
    return cfg


class RecordedSteps(Dataset):
    """The steps of a recording, one a batch."""

    def __init__(self, recording: Recording, dtype: torch.dtype) -> None:
        self.recording, self.dtype = recording, dtype

    def __len__(self) -> int:
        return self.recording.settings['iters_per_epoch']

    def __getitem__(self, step: int) -> dict:
        return self.recording.batch(step, self.dtype)


class InOrder(Sampler):
    """Steps of the current epoch; mmengine's sampler hook tells the epoch."""

    def __init__(self, length: int) -> None:
        self.length, self.epoch = length, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self):
        return iter(range(self.epoch * self.length, (self.epoch + 1) * self.length))
