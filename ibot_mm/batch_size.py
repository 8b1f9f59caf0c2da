# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The largest batch that a device has memory for, found by trying."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config

LEAST = 4


def find_batch_size(cfg: 'Config', device: str, most: int = 256) -> int:
    """Train some steps of the real model and data, and halve the batch until they fit.

    Args:
        cfg: Of the training; its data set must be there.
        device: As torch names it.
        most: To begin with. Defaults to 256.

    Returns:
        The batch size in one process.

    Raises:
        MemoryError: If not even four images fit.
    """
    from mmengine.registry import DATASETS, MODELS, init_default_scope
    from mmpretrain.datasets.transforms import PackInputs  # noqa: F401, registers transforms

    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    dataset: Any = DATASETS.build(cfg.train_dataloader.dataset)
    sample = dataset[0]

    def fits(number: int) -> bool:
        return _fits(cfg, MODELS, sample, number, device)

    return halve_until(fits, most)


def halve_until(fits: Callable[[int], bool], most: int, least: int = LEAST) -> int:
    """Return the first of most, most / 2, ... that fits.

    Raises:
        MemoryError: If the least does not.
    """
    number = most
    while number >= least:
        if fits(number):
            return number
        number //= 2
    raise MemoryError(
        f'a batch of {least} images does not fit into the memory of the device: take a smaller '
        'model (--model vits16), fewer or smaller crops '
        '(train_dataloader.dataset.pipeline.crops.num_local_crops=4), or '
        'model.backbone.with_cp=True, which recomputes activations'
    )


def _fits(cfg: Any, registry: Any, sample: Any, number: int, device: str) -> bool:
    import torch
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import FUNCTIONS

    try:
        model: Any = registry.build(cfg.model).to(device).train()
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        settings = dict(cfg.train_dataloader.collate_fn)
        batch = FUNCTIONS.get(settings.pop('type'))([sample] * number, **settings)
        for _ in range(2):  # the optimizer's moments are there from the second step on
            model.train_step(batch, wrapper)
        return True
    except torch.OutOfMemoryError:
        return False
    finally:
        if device.startswith('cuda'):
            model = wrapper = batch = None
            torch.cuda.empty_cache()
