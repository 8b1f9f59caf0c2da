# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""All faults of a config in one list."""

import os
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, RUNNERS, DefaultScope

from .components import check_model
from .data import check_loader
from .sections import (
    check_hooks,
    check_loops,
    check_optimization,
    check_others,
    check_read_sections,
    check_unreachable,
)
from .top_level import check_top_level
from .training import check_fit, check_lengths


def check_config(
    cfg: Config, options: Mapping[str, Any] | None = None, with_data: bool = True
) -> list[str]:
    """Check a whole config: keys, types, signatures, ranges, and what must fit together.

    Every component is built as the Runner would build it, from its real signature; models without
    memory for their weights, data sets without reading annotations. Nothing is trained, written or
    downloaded.

    Args:
        cfg: The config, with the options merged.
        options: What the command line has changed, as ``{'a.b': value}``. Defaults to nothing.
        with_data: Whether data and checkpoints must be there. Defaults to True.

    Returns:
        The faults, each beginning with the key; an empty list for a sound config.
    """
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('ERROR')  # building talks
    try:
        RUNNERS.import_from_location()
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            faults = _check(cfg, options or {}, with_data)
    finally:
        logger.setLevel(level)
    return list(dict.fromkeys(faults))


def _check(cfg: Config, options: Mapping[str, Any], with_data: bool) -> list[str]:
    faults = check_top_level(cfg, options)
    faults += check_read_sections(cfg, with_data)
    faults += check_loops(cfg)
    model, wrong = check_model(cfg.get('model'), MODELS)
    faults += wrong
    transforms: dict[str, Any] = {}
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name)
        if isinstance(loader, Mapping):
            found, wrong = check_loader(name, loader, with_data)
            transforms |= found
            faults += wrong
    hooks, wrong = check_hooks(cfg)
    faults += wrong
    faults += check_others(cfg, with_data)
    faults += check_optimization(cfg, model)
    faults += check_lengths(cfg, hooks, transforms)
    faults += check_unreachable(cfg, hooks)
    faults += check_fit(cfg, model, transforms)
    return faults


def stop_at_faults(cfg: Config, options: Mapping[str, Any] | None = None) -> None:
    """Check a config before training, and end the program where it has faults.

    Args:
        cfg: The config, with the options merged.
        options: What the command line has changed. Defaults to nothing.

    Raises:
        SystemExit: With the list of faults, once however many processes there are.
    """
    faults = check_config(cfg, options)
    if faults:
        first = int(os.environ.get('RANK', 0)) == 0
        raise SystemExit(describe_faults(cfg, faults) if first else 1)


def describe_faults(cfg: Config, faults: list[str]) -> str:
    """Return the faults as a text."""
    number = f'{len(faults)} fault{"s" if len(faults) > 1 else ""}'
    return '\n'.join([f'{cfg.filename or "The config"} has {number}:', *(f'  {f}' for f in faults)])
