# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Replay a recorded run of the published iBOT code and print how far ours departs from it.

The run goes through mmengine's Runner with the pre-training config of ViT-S/16 or Swin-T/7, changed
only where the recording's own settings say so.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from mmengine.config import DictAction
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from ibot_mm.checkpoint import published_to_ibot_mm

sys.path.insert(0, str(Path(__file__).parent))

from training_recording import InOrder, RecordedSteps, Recording, build_config  # noqa: E402


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
                RecordedSteps(recording, dtype),
                sampler=InOrder(settings['iters_per_epoch']),
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
