# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Check of the channels between backbone, neck and heads."""

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from ibot_mm.registry import HOOKS


@HOOKS.register_module()
class ChannelCheckHook(Hook):
    """Checks, before anything runs, that neck and heads expect the feature maps that they get.

    The channels that the backbone gives (``out_channels``, a list with one number for each map)
    are compared with those that the neck expects (``in_channels``), of several necks one after
    the other, and what then comes with those that mmseg's decode and auxiliary heads expect.
    Modules that do not tell their channels are passed over.

    Raises:
        ValueError: If they differ. The message names both modules and both lists.
    """

    def before_run(self, runner: Runner) -> None:
        """Check the model."""
        model: Any = runner.model
        while not hasattr(model, 'backbone') and hasattr(model, 'module'):
            model = model.module  # of a distributed or test-time wrapper
        source = 'model.backbone'
        channels = getattr(getattr(model, 'backbone', None), 'out_channels', None)
        for name, neck in _modules(model, 'neck'):
            expected = getattr(neck, 'in_channels', None)
            if channels and isinstance(expected, Sequence):
                _compare(f'{name}.in_channels', list(expected), source, list(channels))
            elif channels and isinstance(expected, int):
                _compare(f'{name}.in_channels', expected, source, channels[-1])
            source, channels = name, _output_channels(neck)
        for key in ('decode_head', 'auxiliary_head'):
            for name, head in _modules(model, key):
                if channels and hasattr(head, 'in_index') and hasattr(head, 'in_channels'):
                    _check_head(name, head, source, channels)


def _modules(model: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield a module, or all of several, with their keys in the config."""
    module = getattr(model, key, None)
    if isinstance(module, nn.Sequential | nn.ModuleList):
        yield from ((f'model.{key}.{index}', part) for index, part in enumerate(module))
    elif module is not None:
        yield f'model.{key}', module


def _output_channels(neck: Any) -> Sequence[int] | None:
    """Channels of each map; mmdet's necks have one number for all."""
    channels = getattr(neck, 'out_channels', None)
    if isinstance(channels, int):
        return [channels] * neck.num_outs if hasattr(neck, 'num_outs') else None
    return channels


def _check_head(name: str, head: Any, source: str, channels: Sequence[int]) -> None:
    indices = [head.in_index] if isinstance(head.in_index, int) else list(head.in_index)
    if max(indices) >= len(channels):
        raise ValueError(
            f'{name}.in_index is {head.in_index}, but {source} gives {len(channels)} feature maps: '
            f'choose from 0 to {len(channels) - 1}.'
        )
    chosen = [channels[index] for index in indices]
    if isinstance(head.in_channels, Sequence):
        _compare(f'{name}.in_channels', list(head.in_channels), source, chosen)
    else:  # of one map, or the sum of those that the head concatenates
        _compare(f'the sum of {name}.in_channels', head.in_channels, source, sum(chosen))


def _compare(key: str, expected: object, source: str, given: object) -> None:
    if expected != given:
        raise ValueError(
            f'{key} is {expected}, but {source} gives feature maps of {given} channels: make the '
            'config say the same in both places.'
        )
