# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Pipelines whose steps have names."""

from collections.abc import Mapping, Sequence
from typing import Any


def list_steps(pipeline: Mapping[str, Any] | Sequence[Any]) -> list[Any]:
    """List the steps of a pipeline that is given by name.

    Configs merge dicts and replace lists. A pipeline that is a dict of named steps can therefore
    be changed step by step, as ``default_hooks`` can::

        pipeline = dict(
            order=['load', 'flip'],
            load=dict(type='LoadImageFromFile'),
            flip=dict(type='RandomFlip', prob=0.5),
        )
        pipeline = dict(flip=dict(prob=0.1))  # in a config that inherits
        pipeline = dict(flip=None)  # without this step
        pipeline = dict(order=['load', 'crop', 'flip'], crop=...)  # with one more

    The order is a list of its own, since mmengine sorts the keys of the configs that it writes.

    Args:
        pipeline: Steps by name and ``order``, a list of the names; or a list of steps, as
            everywhere in mm.

    Returns:
        The steps in that order, without those that are None.

    Raises:
        ValueError: If ``order`` does not name each step once.
        TypeError: If a named step is neither a config with a ``type``, a callable nor None.
    """
    if not isinstance(pipeline, Mapping):
        return list(pipeline)
    # mmengine marks every dict of an inherited config with its scope.
    named = {name: step for name, step in pipeline.items() if name not in ('_scope_', 'order')}
    order = list(pipeline.get('order') or ())
    if sorted(order) != sorted(named):
        raise ValueError(
            f'The pipeline has the steps {", ".join(named)}, and its order is {order}: give each '
            "name once, as in order=['load', 'crop', 'pack']."
        )
    for name, step in named.items():
        is_config = isinstance(step, Mapping) and 'type' in step
        if not (step is None or is_config or callable(step)):
            raise TypeError(
                f'Step {name!r} of the pipeline is {step!r}. Give a dict with a type, a callable, '
                f'or None to leave it out; the steps are {", ".join(named)}.'
            )
    return [named[name] for name in order if named[name] is not None]
