# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What must fit between the parts of a pre-training."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.config import Config

from ibot_mm.functional.augmentation import no_color

from .components import describe


def check_fit(cfg: Config, model: Any, transforms: Mapping[str, Any]) -> Iterator[str]:
    """Check crops, masks and neck against the backbone of a self-distilling model.

    One image goes through the backbone, on the meta device if the model is there.

    Args:
        cfg: The config.
        model: The model, built.
        transforms: The transforms of the training, by their places.

    Yields:
        The faults.
    """
    crops = _with(transforms, 'num_global_crops', 'global_crop_size')
    masks = _with(transforms, 'start_epoch', 'patch_size')
    path, step = crops or ('', {})
    backbone = getattr(model, 'backbone', None)
    if crops is None or backbone is None or not hasattr(model, 'teacher'):
        return
    size = step['global_crop_size']
    device = next(backbone.parameters()).device
    training = backbone.training
    try:
        with torch.no_grad():
            images = torch.zeros(1, _in_channels(backbone), size, size, device=device)
            tokens = backbone.eval()(images)[-1]
    except Exception as error:  # of any backbone
        yield (
            f'{path}.global_crop_size: {size} pixels do not go through model.backbone: '
            f'{describe(error)}'
        )
        return
    finally:
        backbone.train(training)
    yield from _check_channels(model, transforms)
    neck = cfg.model.get('neck') or {}
    expected = neck.get('in_channels')
    if expected is not None and expected != tokens.shape[-1]:
        yield (
            f'model.neck.in_channels: is {expected}, but model.backbone gives {tokens.shape[-1]} '
            'channels: set it to that'
        )
    side = max(math.isqrt(tokens.shape[1] - 1), 1)  # of the grid
    patch = masks[1]['patch_size'] if masks is not None else size // side
    if side not in (size // patch, -(-size // patch)):
        patch = size // side
    if masks is not None and masks[1]['patch_size'] != patch:
        yield (
            f'{masks[0]}.patch_size: is {masks[1]["patch_size"]}, but a token of model.backbone '
            f'stands for {patch} x {patch} pixels: set it to that'
        )
    locals_ = step['num_local_crops']
    for name in ('global_crop_size', *(['local_crop_size'] if locals_ else [])):
        if step[name] % patch:
            yield (
                f'{path}.{name}: {step[name]} pixels are not a whole number of patches of {patch}; '
                f'near are {step[name] // patch * patch} and {-(-step[name] // patch) * patch}'
            )
        elif step[name] < 2 * patch:
            yield (
                f'{path}.{name}: {step[name]} pixels are fewer than two patches of {patch} a side: '
                f'set it to {2 * patch} or more, or take smaller patches'
            )
    if step['num_global_crops'] + locals_ < 2:
        yield f'{path}.num_global_crops: the [CLS] loss needs two crops, global or local'


def _in_channels(backbone: Any) -> int:
    """Channels that the patch embedding takes, the first layer with a kernel."""
    return next(p.shape[1] for p in backbone.parameters() if p.ndim == 4)


def _check_channels(model: Any, transforms: Mapping[str, Any]) -> Iterator[str]:
    """Check the channels that are read against backbone, normalization and augmentation."""
    path, load = _with(transforms, 'channels', 'pixel_range') or ('', {})
    if not load:
        return
    channels, wanted = load['channels'], _in_channels(model.backbone)
    in_order = channels is not None
    number = 3 if channels is None else channels if isinstance(channels, int) else len(channels)
    if number != wanted:
        yield (
            f'{path}.channels: {number} channels are read, but model.backbone takes {wanted}: set '
            'its in_channels to as many'
        )
    preprocessor: Any = model.data_preprocessor
    mean = getattr(preprocessor, 'mean', None)
    if mean is not None and len(mean) not in (1, number):
        yield (
            f'model.data_preprocessor.mean: has {len(mean)} channels, but {number} are read: give '
            'as many means and deviations; tools/dataset_converters/measure_channels.py measures '
            'them'
        )
    if in_order and getattr(preprocessor, 'to_rgb', False):
        yield (
            f"model.data_preprocessor.to_rgb: with {path}.channels images come in the file's "
            'order: set it to False'
        )
    place, augment = _with(transforms, 'policies', 'per_crop') or ('', {})
    if number != 3 and any(policy.color_operations for policy in augment.get('policies', ())):
        yield f'{place}: {no_color(number)}'


def _with(transforms: Mapping[str, Any], *names: str) -> tuple[str, dict[str, Any]] | None:
    """Find the first transform that has these attributes, with its place."""
    for path, transform in transforms.items():
        if path.startswith('train_') and all(hasattr(transform, name) for name in names):
            return path, vars(transform)
    return None


def check_lengths(
    cfg: Config, hooks: Mapping[str, Any], transforms: Mapping[str, Any]
) -> Iterator[str]:
    """Check what is counted in epochs against the length of the training.

    Args:
        cfg: The config.
        hooks: The hooks, by their places.
        transforms: The transforms, by their places.

    Yields:
        The faults.
    """
    epochs = (cfg.get('train_cfg') or {}).get('max_epochs')
    if not isinstance(epochs, int):
        return
    for path, hook in hooks.items():
        frozen = getattr(hook, 'epochs', None)
        if isinstance(frozen, int | float) and hasattr(hook, 'method') and frozen >= epochs > 0:
            yield (
                f'{path}.epochs: what is frozen for {frozen} of {epochs} epochs is never trained: '
                'lower it, or raise train_cfg.max_epochs'
            )
        warmup = getattr(hook, 'warmup_epochs', None)
        if getattr(hook, 'warmup_share', None) is not None:
            warmup = 0  # a share always fits
        waiting = getattr(hook, 'patch_start_epoch', 0)
        if isinstance(warmup, int | float) and warmup + waiting > epochs:
            yield (
                f'{path}.warmup_epochs: {warmup} epochs, after {waiting} of waiting, are more than '
                f'the {epochs} of train_cfg.max_epochs'
            )
    masks = _with(transforms, 'start_epoch', 'patch_size')
    if masks is not None and masks[1]['start_epoch'] >= epochs > 0:
        yield (
            f'{masks[0]}.start_epoch: {masks[1]["start_epoch"]} of {epochs} epochs leave none with '
            'masks'
        )
