# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A small iBOT training on noise for all that takes part in one, and tools as users call them."""

import functools
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image
from preloaded import run_script
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

CONFIGS = Path(__file__).parents[1] / 'configs'


@pytest.fixture(scope='session', autouse=True)
def cheap_runners() -> Iterator[None]:
    """Most of a tiny test: layout of a config, the disk, garbage collection, package indices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **kwargs: (text, True))
        patch.setattr('os.fsync', lambda descriptor: None)  # waits for what other tests write, too
        patch.setattr('mmengine.dataset.base_dataset.gc', SimpleNamespace(collect=lambda: 0))
        # Read again for each `_base_ = 'mmdet::...'`: 400 files, a second.
        patch.setattr('mmengine.config.utils.load', functools.cache(load))
        yield


@pytest.fixture(scope='session', autouse=True)
def forkable_autograd() -> None:
    """Start torch's engine while it needs no thread, so that tests can fork.

    After the first shards, or the first compiled function, of a process it would take one.
    """
    torch.ones((), requires_grad=True).backward()


@pytest.fixture(autouse=True)
def ended_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A loader's workers end with its test: garbage collection would wait 5 seconds for each."""
    loaders = weakref.WeakSet()
    initialize = _MultiProcessingDataLoaderIter.__init__

    def remember(loader: _MultiProcessingDataLoaderIter, *args: object) -> None:
        initialize(loader, *args)
        loaders.add(loader)

    monkeypatch.setattr(_MultiProcessingDataLoaderIter, '__init__', remember)
    yield
    for loader in loaders:
        loader._shutdown_workers()


@pytest.fixture(scope='session')
def call() -> Callable[..., CompletedProcess]:
    """Run a tool in the repository as a user would; a failure is an error unless it may fail.

    Tools in Python run where the packages are imported already, unless the environment changes.
    """

    def run(*words: object, may_fail: bool = False, **environment: str) -> CompletedProcess:
        command = [str(word) for word in words]
        is_python = command[0] == '-m' or command[0].endswith('.py')
        if is_python and not environment:
            (result,) = run_script(command, CONFIGS.parent)
        else:
            start = [sys.executable] if is_python else []
            worker = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0')[2:])
            variables = dict(os.environ, PYTHON=sys.executable, OMP_NUM_THREADS='1')
            port = str(29631 + worker)  # one for each of pytest's workers
            variables |= dict(PORT=port) | environment
            options = dict(capture_output=True, text=True, timeout=1200)
            result = subprocess.run(start + command, cwd=CONFIGS.parent, env=variables, **options)
        assert may_fail or result.returncode == 0, result.stderr[-4000:]
        return result

    return run


@pytest.fixture(scope='session')
def call_together() -> Callable[..., list[CompletedProcess]]:
    """Run a script in processes of one group; a failure of any is an error unless it may fail."""

    def run(
        *words: object, num_processes: int = 2, may_fail: bool = False
    ) -> list[CompletedProcess]:
        results = run_script([str(word) for word in words], CONFIGS.parent, num_processes)
        for result in results:
            assert may_fail or result.returncode == 0, result.stderr[-4000:]
        return results

    return run


@pytest.fixture(scope='session')
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageNet-shaped: {train,val}/class_{0,1}/*.jpg, 8 and 4 images of 40 x 32 pixels."""
    root = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for split, per_class in (('train', 4), ('val', 2)):
        for label in range(2):
            folder = root / split / f'class_{label}'
            folder.mkdir(parents=True)
            for index in range(per_class):
                noise = rng.integers(0, 256, (40, 32, 3), dtype=np.uint8)
                Image.fromarray(noise).save(folder / f'{index}.jpg')
    return root


@pytest.fixture
def tiny_config(image_folder: Path, tmp_path: Path) -> Config:
    """ViT-S/16's pre-training config, made so small that an iteration takes milliseconds."""
    return _shrink('pretrain/ibot_vits16.py', image_folder, tmp_path)


@pytest.fixture
def shrink(tmp_path: Path) -> Callable[[str, Path], Config]:
    """Make another pre-training config as small as ``tiny_config``, for a folder of images."""
    return lambda name, folder: _shrink(name, folder, tmp_path)


def _shrink(name: str, image_folder: Path, tmp_path: Path) -> Config:
    cfg = Config.fromfile(CONFIGS / name)
    cfg.model.backbone.update(
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        img_size=16,
        patch_size=4,
        drop_path_rate=0.2,
    )
    cfg.model.neck.update(
        in_channels=16, num_prototypes=24, hidden_channels=16, bottleneck_channels=8
    )
    cfg.model.head.num_prototypes = 24
    pipeline = cfg.train_dataloader.dataset.pipeline
    pipeline.crops.update(global_crop_size=16, local_crop_size=8, num_local_crops=2)
    pipeline.masks.patch_size = 4
    cfg.train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.data_root = str(image_folder)
    cfg.val_dataloader.update(batch_size=4, num_workers=0)
    for split in ('bank', 'query'):
        dataset = cfg.val_dataloader.dataset[split]
        dataset.data_root = str(image_folder)
        dataset.pipeline.resize.scale = 16
        dataset.pipeline.crop.crop_size = 16
    cfg.val_evaluator.ks = (1, 5)
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    cfg.train_cfg.update(max_epochs=3, val_interval=3)
    cfg.param_scheduler[0].warmup = 1
    cfg.default_hooks.temperature.warmup_epochs = 2
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.start_again = True  # a test trains several times
    cfg.work_dir = str(tmp_path / 'work_dir')
    cfg.launcher = 'none'
    return cfg


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Runner]:
    """Build a Runner of a config, add hooks, train, return it."""

    def run(cfg: Config, *hooks: Hook) -> Runner:
        run.count += 1
        cfg.experiment_name = f'{tmp_path.name}-{run.count}'
        runner = Runner.from_cfg(cfg)
        for hook in hooks:
            runner.register_hook(hook)
        runner.train()
        return runner

    run.count = 0
    return run
