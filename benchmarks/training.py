# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Our training step: the pre-training config in mmengine's Runner, all hooks included."""

import logging
import tempfile
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner

from benchmarks.workload import NETWORKS, Timer, Workload
from ibot_mm.engine.distributed import prepare_cpu_processes

CONFIGS = Path(__file__).parents[1] / 'configs/pretrain'


@LOOPS.register_module()
class TurnsLoop(EpochBasedTrainLoop):
    """Gets ready and leaves it to the benchmark to run each epoch."""

    def run(self) -> None:
        """Call only the hooks that come before the first epoch."""
        self.runner.call_hook('before_train')


def build_config(
    workload: Workload, work_dir: str, launcher: str = 'none', pack_crops: bool = False
) -> Config:
    """Build the config of ViT-S/16 with the workload's settings."""
    settings = workload.settings
    cfg = Config.fromfile(CONFIGS / 'ibot_vits16.py')
    network = NETWORKS[settings.arch]
    cfg.model.backbone.update(
        arch=dict(
            embed_dims=network.channels,
            num_layers=network.layers,
            num_heads=network.heads,
            feedforward_channels=4 * network.channels,
        ),
        img_size=settings.global_crop_size,
        patch_size=network.patch_size,
        drop_path_rate=settings.drop_path,
        with_cp=settings.checkpoint_activations,
    )
    cfg.model.compile_backbone = settings.compile
    cfg.model.pack_crops = pack_crops
    cfg.model.neck.update(
        in_channels=network.channels,
        hidden_channels=network.hidden_channels,
        bottleneck_channels=network.bottleneck_channels,
        num_prototypes=settings.prototypes,
        norm_last_layer=True,
    )
    cfg.model.head.num_prototypes = settings.prototypes
    cfg.optim_wrapper.clip_grad.max_norm = settings.clip
    cfg.optim_wrapper.optimizer.lr = settings.lr
    if settings.dtype == 'float32':
        cfg.optim_wrapper.type = 'ibot_mm.PerParameterClipOptimWrapper'
    else:
        cfg.optim_wrapper.dtype = settings.dtype
    cfg.auto_scale_lr.enable = False
    cfg.train_cfg = dict(type='TurnsLoop', max_epochs=10**4)
    cfg.default_hooks.prototypes.epochs = settings.frozen_epochs
    cfg.default_hooks.checkpoint = None
    for name in ('val', 'test'):
        cfg[f'{name}_dataloader'] = cfg[f'{name}_cfg'] = cfg[f'{name}_evaluator'] = None
    cfg.work_dir = work_dir
    cfg.experiment_name = Path(work_dir).name
    cfg.log_level = logging.ERROR
    cfg.launcher = launcher
    prepare_cpu_processes(cfg)
    return cfg


class OurTraining:
    """A Runner that trains for some steps when told to.

    Args:
        workload: Batches and settings.
        images: Folder of images, to train on them through the config's loader. Defaults to None,
            the workload's batches.
        launcher: Of the Runner. Defaults to 'none', one process.
        pack_crops: Whether all crops go through the student in one pass. Defaults to False.
    """

    def __init__(
        self,
        workload: Workload,
        images: str | None = None,
        launcher: str = 'none',
        pack_crops: bool = False,
    ) -> None:
        self.settings = workload.settings
        self.work_dir = tempfile.TemporaryDirectory()
        cfg = build_config(workload, self.work_dir.name, launcher, pack_crops)
        self.batches: Any = workload.ours()
        if images:
            loader = cfg.train_dataloader
            loader.update(batch_size=self.settings.batch_size, num_workers=2)
            loader.dataset.update(data_root=images, data_prefix='')
            self.batches = Runner.build_dataloader(loader, seed=0)
        self.runner = Runner.from_cfg(cfg)
        # Batches of noise have no configuration that could stand in the config.
        self.timer = self.runner._train_dataloader = self._timer()
        self.runner.train()

    def _timer(self) -> Timer:
        timer = Timer(self.batches, self.settings.steps, self.settings.processor_time)
        timer.batch_size = self.settings.batch_size
        return timer

    def run(self) -> list[float]:
        """Train for the steps of a turn; returns the seconds of each."""
        self.timer = self.runner.train_loop.dataloader = self._timer()
        self.runner.train_loop.run_epoch()
        return self.timer.seconds
