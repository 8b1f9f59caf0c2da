# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The algorithm behind whatever wraps it."""

from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner


def unwrap_model(runner: Runner, method: str, hook: str) -> Any:
    """The runner's model without its distributed wrapper.

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
