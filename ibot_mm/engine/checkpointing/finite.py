# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Is all of a training's state finite, on every process?"""

from collections.abc import Iterator

from mmengine.dist import all_gather_object
from mmengine.runner import Runner
from torch import Tensor

from ibot_mm.functional.shards import local_parts


def find_nonfinite(runner: Runner) -> list[str]:
    """Describe, for each process that has any, the weights and moments that are not finite.

    Student, teacher, centers and running statistics are part of the model. Of buffers that a hook
    may put back (``kept_buffers``), what it puts back counts. Where processes share a tensor, each
    looks at its part. All processes must call it.

    Args:
        runner: A runner in training.

    Returns:
        For example ``['rank 1: 3 of 79 tensors, first head.cls_center']``; empty if all is well.
    """
    state = list(_state(runner))
    parts = local_parts([tensor for _, tensor in state])
    bad = [name for (name, _), part in zip(state, parts) if not part.isfinite().all()]
    mine = f'{len(bad)} of {len(state)} tensors, first {bad[0]}' if bad else None
    reports = all_gather_object(mine)
    return [f'rank {rank}: {report}' for rank, report in enumerate(reports) if report]


def _state(runner: Runner) -> Iterator[tuple[str, Tensor]]:
    """Floating-point tensors of the model and the optimizer, with names."""
    names: dict[Tensor, str] = {}
    kept: dict[str, Tensor] = {}
    for hook in runner.hooks:
        kept.update(getattr(hook, 'kept_buffers', {}))
    for name, parameter in runner.model.named_parameters():
        names[parameter] = name.removeprefix('module.')
    for name, tensor in runner.model.state_dict().items():
        if tensor.is_floating_point():
            name = name.removeprefix('module.')
            yield name, kept.get(name, tensor)
    for parameter, state in runner.optim_wrapper.optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.is_floating_point():
                yield f'{key} of {names.get(parameter, "a parameter")}', value
