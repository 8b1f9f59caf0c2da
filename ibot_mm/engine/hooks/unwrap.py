# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What hooks reach for: the algorithm and the transforms behind all that wraps them."""

from collections.abc import Iterator
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner


def unwrap_model(runner: Runner, method: str, hook: str) -> Any:
    """Return the runner's model without its distributed wrapper.

    Args:
        runner: The runner.
        method: A method that the calling hook needs.
        hook: Name of the calling hook, for the message.

    Raises:
        TypeError: If the model lacks the method.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not hasattr(model, method):
        raise TypeError(
            f'{hook} calls {method}() of the model, which {type(model).__name__} does not have: '
            'remove the hook from custom_hooks or use ibot_mm.IBOT.'
        )
    return model


def training_transforms(runner: Runner) -> Iterator[Any]:
    """Find the transforms of the training data, also inside RepeatDataset or ConcatDataset."""
    datasets = [runner.train_dataloader.dataset]
    while datasets:
        dataset = datasets.pop()
        datasets += getattr(dataset, 'datasets', [])
        datasets += [dataset.dataset] if hasattr(dataset, 'dataset') else []
        yield from getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
