# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The published training and k-NN, run from a clone of the repository.

Nothing of it is copied. It was written for GPUs, torch 1.7 and packages that are not needed here;
what stands between it and today's torch, with or without a GPU, is replaced at run time.
"""

import contextlib
import importlib
import io
import sys
import warnings
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import torch
import torch.distributed as dist
from torch import Tensor, nn

from benchmarks.workload import NETWORKS, Timer, Workload, device


def import_published(clone: str, module: str) -> ModuleType:
    """Import a module of the clone, for as long as the process lives.

    Args:
        clone: Of https://github.com/bytedance/ibot.
        module: Name of the module in the clone.

    Raises:
        FileNotFoundError: If there is no such module.
    """
    if not Path(clone, *module.split('.')).with_suffix('.py').is_file():
        raise FileNotFoundError(
            f'{clone} has no {module}: --reference takes a clone of '
            'https://github.com/bytedance/ibot'
        )
    for name in ('tensorboardX', 'munkres'):  # imported, not used here
        sys.modules.setdefault(name, MagicMock())
    sys.path.insert(0, clone)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        found = importlib.import_module(module)
    if not dist.is_initialized():  # it averages over processes, be there only one
        dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    importlib.import_module('utils').SmoothedValue.synchronize_between_processes = lambda _: None
    if not torch.cuda.is_available():
        Tensor.cuda = lambda self, *args, **kwargs: self
        torch.cuda.synchronize = lambda *args: None
    return found


class _OneProcess(nn.Module):
    """Stands for the distributed wrapper, which has nothing to do in one process."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


class PublishedTraining:
    """Networks, loss and optimizer of the published code, and its loop over batches.

    Args:
        clone: Of https://github.com/bytedance/ibot.
        workload: Batches and settings.
    """

    def __init__(self, clone: str, workload: Workload) -> None:
        main = self.main = import_published(clone, 'main_ibot')
        settings = self.settings = workload.settings
        sizes = NETWORKS[settings.arch]

        def network(**backbone: Any) -> nn.Module:
            backbone = main.models.VisionTransformer(
                img_size=[settings.global_crop_size],
                patch_size=sizes.patch_size,
                embed_dim=sizes.channels,
                depth=sizes.layers,
                num_heads=sizes.heads,
                qkv_bias=True,
                return_all_tokens=True,
                **backbone,
            )
            head = main.iBOTHead(
                backbone.embed_dim,
                settings.prototypes,
                patch_out_dim=settings.prototypes,
                hidden_dim=sizes.hidden_channels,
                bottleneck_dim=sizes.bottleneck_channels,
                shared_head=True,
            )
            return main.utils.MultiCropWrapper(backbone, head).to(device())

        student = network(drop_path_rate=settings.drop_path, masked_im_modeling=True)
        self.student, self.teacher = _OneProcess(student), network()
        self.teacher.load_state_dict(student.state_dict(), strict=False)
        self.teacher.requires_grad_(False)
        temperatures = (0.04, 0.04, 0.04, 0.04, 0, 10**4)
        self.loss = main.iBOTLoss(
            settings.prototypes, settings.prototypes, 2, settings.local_crops, *temperatures
        ).to(device())
        self.optimizer = torch.optim.AdamW(main.utils.get_params_groups(self.student))
        self.scaler = torch.amp.GradScaler(device()) if settings.dtype == 'float16' else None
        if settings.dtype == 'bfloat16':  # it knows fp16 only
            torch.cuda.amp.autocast = lambda _: torch.autocast(device(), torch.bfloat16)
        self.args = Namespace(
            epochs=10**4,
            global_crops_number=2,
            use_masked_im_modeling=True,
            clip_grad=settings.clip,
            freeze_last_layer=settings.frozen_epochs,
        )
        self.batches = workload.published()
        self.epoch = 0

    def run(self) -> list[float]:
        """Train for the steps of a turn; returns the seconds of each."""
        timer = Timer(self.batches, self.settings.steps, self.settings.processor_time)
        schedules = (
            [value] * (self.settings.steps * (self.epoch + 1))
            for value in (self.settings.lr, 0.04, 0.996)
        )
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            self.main.train_one_epoch(
                self.student, self.teacher, self.teacher, self.loss, timer, self.optimizer,
                *schedules, self.epoch, self.scaler, self.args,
            )  # fmt: skip
        self.epoch += 1
        return timer.seconds
