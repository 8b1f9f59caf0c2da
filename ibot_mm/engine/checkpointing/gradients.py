# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Gradients of a step that is accumulated over several iterations and was not taken yet."""

from typing import Any

import torch
from mmengine.dist import all_gather_object, gather, get_rank, get_world_size, is_main_process
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor

from ibot_mm.engine.mmengine_state import accumulation_of
from ibot_mm.functional.shards import has_shards, shard_like


def gather_gradients(runner: Runner) -> list[dict[str, Tensor]]:
    """Collect the gradients of each process in mid-step, nothing at its end. All must call it.

    Args:
        runner: A runner in training.

    Returns:
        On the main process, gradients by the names of their parameters, for each process; empty on
        the others and where no step is under way. Of parameters that processes share one entry, on
        all processes, with the parts of each.
    """
    if runner.optim_wrapper.should_update():
        return []
    parameters = dict(runner.model.named_parameters())
    mine = [name for name, parameter in parameters.items() if parameter.grad is not None]
    if has_shards(runner.model):  # averaged in each iteration
        return [{name.removeprefix('module.'): parameters[name].grad.detach() for name in mine}]
    if get_world_size() == 1:
        bare = {name.removeprefix('module.'): parameters[name].grad for name in mine}
        return [{name: gradient.detach().cpu() for name, gradient in bare.items()}]
    names = sorted({name for names in all_gather_object(mine) for name in names})
    found: list[dict[str, Tensor]] = [{} for _ in range(get_world_size())]
    for name in names:  # one after the other: a process holds one gradient of the others at a time
        gradient = parameters[name].grad
        if gradient is None:
            gradient = torch.zeros_like(parameters[name])
        for entry, tensor in zip(found, gather(gradient.detach().contiguous(), dst=0) or []):
            entry[name.removeprefix('module.')] = tensor.cpu()
    return found if is_main_process() else []


def goes_on_in_step(runner: Runner, meta: dict[str, Any]) -> bool:
    """Tell whether a run goes on within the very step that a checkpoint was saved in.

    Args:
        runner: The runner, its progress restored.
        meta: Of the checkpoint.
    """
    same: bool = (
        accumulation_of(runner.optim_wrapper) == meta['accumulative_counts']
        and runner.iter == meta['iter']
    )
    return same


def restore_gradients(runner: Runner, meta: dict[str, Any], saved: list[dict[str, Tensor]]) -> None:
    """Go on in mid-step. Another number of processes gets the mean of those saved.

    With another ``accumulative_counts``, or another length of the epoch, the step's iterations do
    not fit: it is begun anew, and the log says so.

    Args:
        runner: The runner, its progress restored.
        meta: Of the checkpoint.
        saved: See :func:`gather_gradients`.
    """
    if not saved:
        return
    if not goes_on_in_step(runner, meta):
        print_log(
            'The checkpoint was saved within an accumulated step, which does not fit '
            f'accumulative_counts={accumulation_of(runner.optim_wrapper)} at iteration '
            f'{runner.iter}: its gradients are left out.',
            'current',
        )
        return
    if len(saved) == get_world_size():
        mine = saved[get_rank()]
    else:
        mine = {name: torch.stack([part[name] for part in saved]).mean(0) for name in saved[0]}
    for name, parameter in runner.model.named_parameters():
        gradient = mine.get(name.removeprefix('module.'))
        if gradient is not None:
            gradient = gradient.to(parameter.device, parameter.dtype, copy=True)
            parameter.grad = shard_like(gradient, parameter)
    print_log(
        'Restored the gradients of a step under way; none is lost, other than mmengine warns.',
        'current',
    )
