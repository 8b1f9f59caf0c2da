# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The recipe for a set of images: a config of the project, and what changes of it and why.

Which schedule serves how many images is measured in docs/small_data.md as far as it is; epochs,
prototypes and the limit between the two schedules are judgment.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import log2, sqrt
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .compatibility import load_config

CONFIGS = Path(__file__).parent / '.mim/configs'
MODELS = dict(
    vits16='ibot_vits16', vitb16='ibot_vitb16', vitl16='ibot_vitl16', swint='ibot_swint_w7'
)
LEAST_IMAGES = 64
MANY_IMAGES = 100_000  # from here on the published schedules serve
CPU_BATCH = 64


@dataclass(frozen=True)
class Situation:
    """What a recipe depends on.

    Args:
        images: Number of images.
        train: Config of their data set: ``type``, ``data_root`` and, of a split, ``data_prefix``.
        held_out: The same of labeled images on which k-NN is measured, whose classes are those of
            ``train``; None for none.
        device: 'cuda' or 'cpu'.
        devices: Number of processes.
        cores: Of the CPU.
        bfloat16: Whether the device computes in it.
    """

    images: int
    train: Mapping[str, Any]
    held_out: Mapping[str, Any] | None
    device: str
    devices: int = 1
    cores: int = 1
    bfloat16: bool = False


@dataclass(frozen=True)
class Choice:
    """One thing that was chosen.

    Args:
        name: What.
        value: The choice.
        reason: Why.
    """

    name: str
    value: str
    reason: str


def plan_training(
    data: str | Path,
    situation: Situation,
    model: str = 'vits16',
    weights: str | None = None,
    epochs: int | None = None,
    config: str | Path | None = None,
) -> tuple[Config, list[Choice]]:
    """Choose a config, and change it for the images and the machine.

    Args:
        data: Folder or store of the images, for messages.
        situation: What it is chosen for.
        model: One of ``MODELS``, or a Vision Transformer of timm by its name. Defaults to
            'vits16'.
        weights: Checkpoint of any known format to start from. Defaults to None, from nothing.
        epochs: Defaults to None, by the number of images.
        config: A config of one's own in place of model and recipe, of which only the data and the
            number of epochs are changed. Defaults to None.

    Returns:
        The config, without the batch size, and what was chosen.

    Raises:
        ValueError: If there are too few images or the model is unknown.
    """
    if situation.images < LEAST_IMAGES:
        raise ValueError(
            f'{data} has {situation.images} images: a pre-training needs at least {LEAST_IMAGES}, '
            'and some thousands to learn from. Features of a network that is trained already: '
            'ibot-mm embed'
        )
    if config is not None:
        cfg, choices = load_config(config), [Choice('config', str(config), 'given')]
    else:
        cfg, choices = _recipe(situation, model, weights)
    choices += _set_length(cfg, situation, epochs, weights, own=config is not None)
    choices += _set_data(cfg, situation)
    if config is None:
        choices += _set_machine(cfg, situation)
    return cfg, choices


def check_model(model: str) -> str:
    """Return the base config of a model.

    Raises:
        ValueError: If it is neither of ``MODELS`` nor of timm, with the nearest names.
    """
    if model in MODELS:
        return MODELS[model]
    import timm

    if timm.is_model(timm.models.parse_model_name(model)[1]):
        return 'ibot_vits16'
    near = get_close_matches(model, [*MODELS, *timm.list_models()], n=5, cutoff=0.5)
    raise ValueError(
        f'unknown model {model!r}: choose one of {", ".join(MODELS)}, or a Vision Transformer of '
        f'timm' + (f'; near are {", ".join(near)}' if near else '')
    )


def _recipe(situation: Situation, model: str, weights: str | None) -> tuple[Config, list[Choice]]:
    base = check_model(model)
    cfg = load_config(CONFIGS / f'pretrain/{base}.py')
    choices = [Choice('model', model, f'config pretrain/{base}.py')]
    if model not in MODELS:
        cfg.merge_from_dict(_timm_student(model))
    if weights is not None:
        _apply(cfg, _schedule('continuing'))
        start = dict(type='ibot_mm.Pretrained', checkpoint=str(weights))
        cfg.merge_from_dict(
            dict(model=dict(backbone=dict(init_cfg=start), neck=dict(norm_last_layer=True)))
        )
        choices.append(Choice('recipe', 'continuing', f'starts from {weights}'))
    elif situation.images < MANY_IMAGES:
        number = _num_prototypes(situation.images)
        small = _schedule('small_data')
        _apply(cfg, small)
        head = small['head'] | dict(num_prototypes=number)
        changes: dict[str, Any] = dict(
            head=head, neck=dict(num_prototypes=number), regularizers=small['regularizers']
        )
        if model.startswith('vit') and model in MODELS:
            changes['backbone'] = dict(init_cfg=small['init'])
        cfg.merge_from_dict(dict(model=changes))
        reason = f'fewer than {MANY_IMAGES:,} images (docs/small_data.md)'
        choices.append(Choice('recipe', 'small data', reason))
        choices.append(Choice('prototypes', f'{number:,}', 'by the number of images'))
    else:
        choices.append(Choice('recipe', 'as published', f'{MANY_IMAGES:,} images or more'))
    return cfg, choices


def _schedule(name: str) -> dict[str, Any]:
    return Config.fromfile(CONFIGS / f'_base_/schedules/{name}.py')[name].to_dict()


def _apply(cfg: Config, changes: Mapping[str, Any]) -> None:
    """Apply a schedule of ``configs/_base_/schedules`` that lists changes by name."""
    keys = ('optim_wrapper', 'auto_scale_lr', 'default_hooks', 'train_cfg')
    cfg.merge_from_dict({key: changes[key] for key in keys if key in changes})
    for key in ('learning_rate', 'weight_decay'):
        cfg.merge_from_dict({f'{key}_schedule': changes.get(key, {})})
    cfg.param_scheduler = [cfg.learning_rate_schedule, cfg.weight_decay_schedule]


def _timm_student(model: str) -> dict[str, Any]:
    from mmengine.registry import MODELS as REGISTRY

    student = dict(type='ibot_mm.TimmVisionTransformer', model_name=model)
    network: Any = REGISTRY.build(student)
    patch = network.timm_model.patch_embed.patch_size[0]
    backbone = dict(_delete_=True, drop_path_rate=0.1, **student)
    pipeline = dict(masks=dict(patch_size=patch))
    return dict(
        model=dict(backbone=backbone, neck=dict(in_channels=network.embed_dims)),
        train_dataloader=dict(dataset=dict(pipeline=pipeline)),
    )


def _num_prototypes(images: int) -> int:
    """Return a power of two: some forty images for each, 256 to the published 8192."""
    return 2 ** round(min(max(log2(images / 40), 8), 13))


def _set_length(
    cfg: Config, situation: Situation, epochs: int | None, weights: str | None, own: bool
) -> list[Choice]:
    reason = 'given'
    if epochs is None and (own or (weights is None and situation.images >= MANY_IMAGES)):
        epochs, reason = cfg.train_cfg.get('max_epochs'), 'as the config says'
        if epochs is None:  # it counts iterations
            return []
    elif epochs is None:
        share = 100 if weights is not None else 316
        epochs = round(min(max(share * sqrt(20_000 / situation.images), 30), 1000))
        reason = 'by the number of images'
    every = max(1, epochs // 20)
    cfg.merge_from_dict(
        dict(
            train_cfg=dict(max_epochs=epochs, val_interval=every),
            default_hooks=dict(checkpoint=dict(interval=every)),
        )
    )
    choices = [Choice('epochs', str(epochs), reason)]
    return choices if own else choices + _limit_warmups(cfg, epochs)


def _limit_warmups(cfg: Config, epochs: int) -> list[Choice]:
    """Shorten what is counted in epochs, where the training is short for it."""
    rate, hooks = cfg.learning_rate_schedule, cfg.default_hooks
    shares = (
        ('learning rate', rate, 'warmup', 0.1),
        ('temperature', hooks.temperature, 'warmup_epochs', 0.3),
        ('frozen patch embedding', hooks.get('patch_embedding') or {}, 'epochs', 0.1),
        ('no masks', cfg.train_dataloader.dataset.pipeline.masks, 'start_epoch', 0.2),
        ('no patch warm-up', hooks.temperature, 'patch_start_epoch', 0.2),
    )
    shortened = []
    for title, owner, key, share in shares:
        most = max(1, round(share * epochs))
        if owner.get(key, 0) > most:
            owner[key] = most
            shortened.append(f'{title} {most}')
    cfg.param_scheduler = [rate, cfg.weight_decay_schedule]
    if not shortened:
        return []
    return [Choice('warm-ups, epochs', ', '.join(shortened), f'for {epochs} epochs')]


def _set_data(cfg: Config, situation: Situation) -> list[Choice]:
    train, held_out = _source(situation.train), situation.held_out
    cfg.merge_from_dict(dict(train_dataloader=dict(dataset=train)))
    if held_out is not None:
        splits = dict(bank=train, query=_source(held_out))
        for name in ('val_dataloader', 'test_dataloader'):
            cfg.merge_from_dict({name: dict(dataset=splits)})
        reason = 'there are labels in train and val'
        return [Choice('validation', 'k-NN on val', reason)]
    for name in ('val', 'test'):
        for part in ('dataloader', 'cfg', 'evaluator'):
            cfg[f'{name}_{part}'] = None
    cfg.default_hooks.pop('start', None)  # which compares k-NN
    return [Choice('validation', 'none', 'there are no labels in train/CLASS and val/CLASS')]


def _source(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a data set's config by which it is found from everywhere."""
    place = str(config['data_root'])
    is_local = '://' not in place and not place.startswith('pipe:')
    found = os.path.abspath(place) if is_local else place
    return dict(data_prefix='') | dict(config, data_root=found)


def _set_machine(cfg: Config, situation: Situation) -> list[Choice]:
    workers = max(1, min(12, situation.cores // situation.devices - 1))
    cfg.merge_from_dict(dict(train_dataloader=dict(num_workers=workers)))
    if cfg.val_dataloader:
        for name in ('val_dataloader', 'test_dataloader'):
            cfg.merge_from_dict({name: dict(num_workers=workers)})
    if situation.device == 'cpu':
        cfg.optim_wrapper.type = 'ibot_mm.PerParameterClipOptimWrapper'
        precision, reason = 'float32', 'on a CPU'
    else:
        cfg.optim_wrapper.type = 'ibot_mm.PerParameterClipAmpOptimWrapper'
        cfg.optim_wrapper.dtype = 'bfloat16' if situation.bfloat16 else 'float16'
        precision, reason = cfg.optim_wrapper.dtype, 'of what the GPU offers'
    return [
        Choice('workers', str(workers), f'{situation.cores} cores, {situation.devices} processes'),
        Choice('precision', precision, reason),
    ]
