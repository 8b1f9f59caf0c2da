# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Replay a recorded run of the published iBOT code and print how far ours departs from it.

The run goes through mmengine's Runner with the pre-training config of ViT-S/16 or Swin-T/7, changed
only where the recording's own settings say so.
"""

import argparse
import json
import logging
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ibot_mm.checkpoint import published_to_ibot_mm, to_unfold_order

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


class _Steps(Dataset):
    def __init__(self, recording: Recording, dtype: torch.dtype) -> None:
        self.recording, self.dtype = recording, dtype

    def __len__(self) -> int:
        return self.recording.settings['iters_per_epoch']

    def __getitem__(self, step: int) -> dict:
        return self.recording.batch(step, self.dtype)


class _InOrder(Sampler):
    """Steps of the current epoch; mmengine's sampler hook tells the epoch."""

    def __init__(self, length: int) -> None:
        self.length, self.epoch = length, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self):
        return iter(range(self.epoch * self.length, (self.epoch + 1) * self.length))


class ReplayHook(Hook):
    """Starts from the recorded state and notes what each step gives."""

    priority = 'HIGH'  # ahead of the schedulers, which move on after each step

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.names = published_to_ibot_mm(
            recording.state('init.student.'), recording.settings['shared_head']
        )
        self.observed: dict[str, list] = defaultdict(list)
        self.gradient_norms: dict[str, Tensor] = {}

    def before_train(self, runner: Runner) -> None:
        model = runner.model
        own = model.state_dict()
        initial = {
            self.names[name]: tensor.reshape(own[self.names[name]].shape)
            for name, tensor in self.recording.state('init.student.').items()
        }
        missing = {n for n in own if n.startswith(('backbone.', 'neck.'))} - set(initial)
        if missing:
            raise KeyError(f'The recording does not start {sorted(missing)}.')
        model.load_state_dict(initial, strict=False)
        model.teacher.copy_from(model.backbone, model.neck)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                # Called once the gradient is whole, before clipping and freezing.
                parameter.register_post_accumulate_grad_hook(
                    lambda p, name=name: self.gradient_norms.__setitem__(name, p.grad.norm())
                )
        loss = model.head.loss

        def observing_loss(**logits: Tensor) -> dict[str, Tensor]:
            self.observed['student_cls'].append(logits['student_cls'].flatten(0, 1)[:2].detach())
            self.observed['teacher_cls'].append(logits['teacher_cls'].flatten(0, 1)[:2])
            return loss(**logits)

        model.head.loss = observing_loss

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        head, group = runner.model.head, runner.optim_wrapper.param_groups[0]
        names = [self.names[name] for name in self.recording.arrays['grad_names']]
        values = dict(
            outputs,
            center_cls=head.cls_center.clone(),
            center_patch=head.patch_center.clone(),
            lr=group['lr'],
            weight_decay=group['weight_decay'],
            teacher_temp=head.teacher_temperature,
            teacher_patch_temp=head.teacher_patch_temperature,
            grad_norms=torch.stack([self.gradient_norms[name] for name in names]),
        )
        for name, value in values.items():
            self.observed[name].append(value)

    def after_train_epoch(self, runner: Runner) -> None:
        history = runner.message_hub.get_scalar('train/teacher_momentum').data[0]
        self.observed['momentum'] = list(history)


def relative_error(value, recorded: np.ndarray) -> float:
    """Largest difference over the largest recorded magnitude (absolute where that is 0)."""
    recorded = torch.from_numpy(np.asarray(recorded, dtype=np.float64)).flatten()
    value = torch.as_tensor(value, dtype=torch.float64).detach().flatten()
    if value.shape != recorded.shape or not value.isfinite().all():
        return float('inf')
    return float((value - recorded).abs().max() / (recorded.abs().max() or 1.0))


def replay(path: str, dtype: torch.dtype, options: dict) -> dict[str, float]:
    """Run a recording again.

    Args:
        path: The recording.
        dtype: Precision of the replay.
        options: What to change of the config, by dotted key.

    Returns:
        Worst relative error of each recorded quantity and of both final states.
    """
    recording = Recording(path)
    settings = recording.settings
    hook = ReplayHook(recording)
    default_dtype = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with tempfile.TemporaryDirectory() as work_dir:
            cfg = build_config(settings, work_dir, options)
            runner = Runner.from_cfg(cfg)
            # A loader of recorded steps has no configuration that could stand in `cfg`.
            runner._train_dataloader = DataLoader(
                _Steps(recording, dtype),
                sampler=_InOrder(settings['iters_per_epoch']),
                batch_size=None,
            )
            runner.register_hook(hook)
            runner.train()
    finally:
        torch.set_default_dtype(default_dtype)

    num_steps = settings['epochs'] * settings['iters_per_epoch']
    quantities = [n.removeprefix('step0.') for n in recording.arrays if n.startswith('step0.')]
    errors = {
        name: max(
            relative_error(hook.observed[name][i], recording.arrays[f'step{i}.{name}'])
            for i in range(num_steps)
        )
        for name in quantities
        if not name.startswith(('image', 'mask'))
    }
    for part, own_prefix in (('student', ''), ('teacher', 'teacher.')):
        final = recording.state(f'final.{part}.')
        shared = settings['shared_head' if part == 'student' else 'shared_head_teacher']
        names = published_to_ibot_mm(final, shared)
        own = runner.model.state_dict()
        errors[f'final {part}'] = max(
            relative_error(own[own_prefix + names[name]], tensor.numpy())
            for name, tensor in final.items()
        )
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('file', help='recorded run, .npz')
    parser.add_argument('--dtype', choices=['float64', 'float32'], default='float64')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='options that must not matter, such as model.compile_backbone=True',
    )
    args = parser.parse_args()

    errors = replay(args.file, getattr(torch, args.dtype), args.cfg_options)
    table = Table('recorded quantity', 'worst relative error', title=Path(args.file).name)
    for name, error in errors.items():
        table.add_row(name, f'{error:.3g}')
    Console().print(table)
    print(f'worst relative error: {max(errors.values()):.3g}')


if __name__ == '__main__':
    main()
