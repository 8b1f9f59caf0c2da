# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Pre-training on images without a config: recipe, batch and machine are chosen."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .recipe import Choice, Situation

CONFIG = 'config.py'
TOOLS = Path(__file__).parent / '.mim/tools'


def pretrain(
    images: str | Path,
    out: str | Path,
    model: str = 'vits16',
    weights: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    config: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    devices: int = 1,
    slurm: str | None = None,
    resume: bool = False,
) -> Path:
    """Pre-train a network on a folder or a store of images.

    What is chosen, and why, is printed as a table; the whole config is written to
    ``OUT/config.py``, by which ``tools/train.py`` repeats the training.

    Args:
        images: Folder, nested as deep as it may be; no labels are needed. Or a store of images,
            see :func:`ibot_mm.datasets.stores.describe_images`. Where it has ``train/CLASS`` and
            ``val/CLASS``, or a store of labeled images for each, k-NN is measured on them.
        out: Folder of checkpoints and logs.
        model: vits16, vitb16, vitl16, swint, or a Vision Transformer of timm by its name.
        weights: Checkpoint of any known format to start from; by default from nothing.
        epochs: By default chosen by the number of images.
        batch_size: Images in one process; by default what fits the device.
        config: Config of one's own, in place of model and recipe.
        options: Changes of the config, as ``{'a.b': value}``.
        devices: Processes of one machine; with Slurm the number of GPUs.
        slurm: Partition of a Slurm cluster.
        resume: Go on with the training in ``out``, by the config written there.

    Returns:
        The config file; checkpoints lie beside it.

    Raises:
        ValueError: If there are too few images, an option is unknown, or ``out`` holds another
            training.
        FileNotFoundError: If there is no folder or store of images.
        MemoryError: If not even four images fit the device.
    """
    path = prepare(
        images, out, model, weights, epochs, batch_size, config, options, devices, resume
    )
    run(path, devices, slurm)
    return path


def prepare(
    images: str | Path,
    out: str | Path,
    model: str = 'vits16',
    weights: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    config: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    devices: int = 1,
    resume: bool = False,
) -> Path:
    """Choose, print the choices and write the config; arguments as of :func:`pretrain`.

    Returns:
        The config file; the one that is there if the training is resumed.
    """
    path = Path(out) / CONFIG
    if path.exists():
        if not resume:
            raise ValueError(
                f'{out} holds a training: --resume goes on with it, or choose another folder'
            )
        return path
    cfg, choices = _plan(images, model, weights, epochs, batch_size, config, devices)
    cfg.merge_from_dict(dict(options or {}))
    show_choices(choices, options or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    cfg.dump(path)
    return path


def run(path: Path, devices: int = 1, slurm: str | None = None) -> None:
    """Train by a written config, in its folder; goes on where there are checkpoints.

    Args:
        path: Of :func:`prepare`.
        devices: Processes.
        slurm: Partition of a cluster. Defaults to None.

    Raises:
        SystemExit: With the status of the training, if that is not 0.
    """
    if devices > 1 or slurm is not None:
        _launch(path, path.parent, devices, slurm)
    else:
        _train_here(path, path.parent)


def show_choices(choices: 'list[Choice]', options: Mapping[str, Any]) -> None:
    """Print what was chosen and what was changed by hand."""
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(*(Column(title, overflow='fold') for title in ('', 'chosen', 'why')))
    for choice in choices:
        table.add_row(choice.name, choice.value, choice.reason)
    for key, value in options.items():
        table.add_row(key, str(value), 'given')
    Console().print(table)


def survey(
    images: str | Path, devices: int = 1, extensions: Sequence[str] | None = None
) -> 'Situation':
    """Look at the images and the machine.

    Args:
        images: Folder or store.
        devices: Number of processes. Defaults to 1.
        extensions: Endings of images' names. Defaults to None: all that can be decoded as RGB.

    Raises:
        FileNotFoundError: If there is no such folder or store.
        ValueError: If there are no images in it, with what was found; or it is neither.
    """
    import torch

    from .compatibility import import_mmpretrain

    import_mmpretrain()
    from mmengine.registry import DATASETS

    from .datasets.find_images import EXTENSIONS, find_images
    from .datasets.stores import describe_images
    from .recipe import Situation

    extensions = tuple(extensions or EXTENSIONS)
    splits = _labeled_splits(str(images), extensions)
    config = splits[0] if splits else describe_images(str(images), extensions)
    if config['type'] == 'ibot_mm.ImageFolder':
        found = find_images(
            os.path.join(config['data_root'], config.get('data_prefix', '')), extensions
        )
        if not found.images:
            raise ValueError(
                f'{images}: {found}; folders of images are needed, nested as deep as you like'
            )
        number = len(found.images)
    else:
        dataset: Any = DATASETS.build(dict(config, extensions=extensions))
        number = len(dataset)
    cuda = torch.cuda.is_available()
    if cuda and devices > torch.cuda.device_count():
        raise ValueError(
            f'{devices} devices are asked for, and there are {torch.cuda.device_count()}'
        )
    return Situation(
        images=number,
        train=config,
        held_out=splits[1] if splits else None,
        device='cuda' if cuda else 'cpu',
        devices=devices,
        cores=os.cpu_count() or 1,
        bfloat16=cuda and torch.cuda.is_bf16_supported(),
    )


def _labeled_splits(root: str, extensions: tuple[str, ...]) -> list[dict[str, Any]]:
    """Configs of train and val, if they hold images of the same classes; else none."""
    from .datasets.stores import describe_split
    from .datasets.stores.files import is_remote

    if is_remote(root):  # where nothing is looked for
        return []
    found = [describe_split(root, name, extensions) for name in ('train', 'val')]
    splits = [config for config in found if config is not None]
    if len(splits) < 2:
        return []
    classes = [_classes_of(config, extensions) for config in splits]
    return splits if len(classes[0]) > 1 and classes[0] == classes[1] else []


def _classes_of(config: dict[str, Any], extensions: tuple[str, ...]) -> set[str]:
    if config['type'] == 'ibot_mm.ImageFolder':
        folder = Path(config['data_root'], config['data_prefix'])
        return {path.name for path in folder.iterdir() if path.is_dir()}
    from mmengine.registry import DATASETS

    try:
        dataset: Any = DATASETS.build(dict(config, extensions=extensions, with_label=True))
    except ValueError:  # it has no labels
        return set()
    return set(dataset.metainfo['classes'])


def _plan(
    images: str | Path,
    model: str,
    weights: str | None,
    epochs: int | None,
    batch_size: int | None,
    config: str | Path | None,
    devices: int,
) -> 'tuple[Any, list[Choice]]':
    from .batch_size import find_batch_size
    from .compatibility import load_config
    from .recipe import CPU_BATCH, Choice, plan_training

    own = load_config(config) if config is not None else None
    extensions = own.train_dataloader.dataset.get('extensions') if own is not None else None
    situation = survey(images, devices, extensions)
    cfg, choices = plan_training(images, situation, model, weights, epochs, config)
    where = f'{situation.devices} x {situation.device}'
    choices.insert(0, Choice('images', f'{situation.images:,}', f'in {images}, for {where}'))
    most = max(4, situation.images // (8 * devices))  # at least eight steps an epoch
    reason = 'given'
    if batch_size is None and config is not None:
        batch_size, reason = cfg.train_dataloader.batch_size, 'as the config says'
    elif batch_size is None and situation.device == 'cpu':
        batch_size, reason = min(CPU_BATCH, most), 'on a CPU larger ones are no faster'
        if batch_size < CPU_BATCH:
            reason = 'at least eight steps an epoch'
    elif batch_size is None:
        batch_size = find_batch_size(cfg, situation.device, min(256, most))
        reason = 'the largest of 256, 128, ... that fits the device'
    cfg.train_dataloader.batch_size = batch_size
    choices.append(Choice('batch', f'{batch_size} x {devices}', reason))
    return cfg, choices


def _train_here(path: Path, out: Path) -> None:
    from .compatibility import load_config
    from .training import prepare_process, run_training

    prepare_process()
    cfg = load_config(path)
    cfg.launcher, cfg.work_dir, cfg.resume = 'none', str(out), True
    run_training(cfg)


def _launch(path: Path, out: Path, devices: int, slurm: str | None) -> None:
    rest = [str(path), '--work-dir', str(out), '--resume']
    if slurm is None:
        command = ['bash', str(TOOLS / 'dist_train.sh'), rest[0], str(devices), *rest[1:]]
    else:
        command = ['bash', str(TOOLS / 'slurm_train.sh'), slurm, out.name, *rest]
    environment = os.environ | dict(PYTHON=sys.executable, GPUS=str(devices))
    status = subprocess.run(command, env=environment).returncode
    if status:
        raise SystemExit(status)
