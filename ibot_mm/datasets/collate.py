# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Batches of dense tensors."""

from collections.abc import Sequence
from typing import Any

from mmengine.dataset import default_collate

from ibot_mm.registry import FUNCTIONS


@FUNCTIONS.register_module()
def stack_samples(samples: Sequence[Any], _scope_: str | None = None) -> Any:
    """Collate as mmengine's ``default_collate``, in configs with ``_base_ = 'ibot_mm::...'`` too.

    Args:
        samples: Samples of a data set: nested dicts of tensors of equal shapes, data samples.
        _scope_: Not used. mmengine marks every dict of an inherited config with its scope and
            hands the mark to the collate function. Defaults to None.

    Returns:
        The samples' structure, tensors with a leading batch axis, data samples in a list.
    """
    return default_collate(samples)
