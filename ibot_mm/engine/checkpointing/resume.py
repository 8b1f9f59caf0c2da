# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Going on from a checkpoint: it gives progress and state, the config gives the numbers."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import Tensor

from ibot_mm.engine.mmengine_state import begin_again, randomness_of, set_progress
from ibot_mm.engine.optim.schedulers import advance_schedulers
from ibot_mm.functional.shards import has_shards, shard_like

from .errors import CheckpointFileError, run_on_main
from .gradients import restore_gradients
from .history import restore_history
from .read import find_fault, read_checkpoint
from .save import images_per_iteration
from .settings import collect_settings, describe_differences
from .shards import REST, fill_in, read_shards

WEIGHTS_ONLY = (
    'To start a new training from the weights alone, leave out --resume and pass '
    '--cfg-options load_from={path}; what does not fit is then listed and left out.'
)


def resume_training(runner: Runner, path: str | Path) -> Callable[[], None]:
    """Bring a runner to where a checkpoint was saved.

    Args:
        runner: Its loop, optimizer and schedulers are built, its training is not begun.
        path: See :func:`read_checkpoint`.

    Returns:
        To call after the ``before_train`` of all hooks, which may drop gradients: restores those
        of a step under way.

    Raises:
        CheckpointFileError: If the file cannot be read, holds no training, or does not fit.
    """
    content = _read(runner, path)
    missing = [key for key in ('meta', 'state_dict', 'optimizer') if key not in content]
    if missing or not {'epoch', 'iter'} <= set(content['meta']):
        raise CheckpointFileError(
            f'{path} holds no training to go on with ({", ".join(missing or ["progress"])} '
            f'missing). {WEIGHTS_ONLY.format(path=path)}'
        )
    if not isinstance(runner.optim_wrapper, OptimWrapper):
        raise CheckpointFileError(
            'ibot_mm.CheckpointHook resumes trainings with one optimizer; for several use '
            "mmengine's, default_hooks=dict(checkpoint=dict(type='CheckpointHook'))."
        )
    runner.call_hook('after_load_checkpoint', checkpoint=content)
    meta = content['meta']
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    check_shapes(model.state_dict(), content['state_dict'], path)
    _load_checkpoint_to_model(model, content, strict=False)
    _restore_seed(runner, meta)
    _restore_progress(runner, meta)
    restore_history(runner.message_hub, content)
    _restore_optimizer(runner.optim_wrapper, content['optimizer'], path)
    advance_schedulers(runner, content.get('param_schedulers', []))
    runner.message_hub.update_info('last_ckpt', str(path))
    _report(runner, meta, path)
    return partial(restore_gradients, runner, meta, content.get('gradients', []))


def _read(runner: Runner, path: str | Path) -> dict[str, Any]:
    """Read a checkpoint; of one in shards, a model in shards reads the parts of this process."""
    folder = Path(path)
    parameters = {n.removeprefix('module.'): p for n, p in runner.model.named_parameters()}
    if not folder.is_dir() or not has_shards(runner.model):
        return read_checkpoint(path)
    fault = run_on_main(partial(find_fault, folder))
    if fault:
        raise CheckpointFileError(f'Checkpoint {path} {fault}.')
    groups = runner.optim_wrapper.optimizer.param_groups
    optimized = [parameter for group in groups for parameter in group['params']]

    def find_target(name: str, shape: Sequence[int]) -> Tensor | None:
        place, _, rest = name.partition('.')
        if place == 'optimizer':  # state.3.exp_avg
            number = int(rest.split('.')[1])
            target = optimized[number] if number < len(optimized) else None
        else:  # state_dict.NAME or gradients.0.NAME
            target = parameters.get(rest if place == 'state_dict' else rest.partition('.')[2])
        return target if target is not None and target.shape == shape else None

    content = read_checkpoint(folder / REST)
    fill_in(content, read_shards(folder, find_target))
    return content


def check_shapes(expected: Mapping[str, Any], given: Mapping[str, Any], path: str | Path) -> None:
    """Check that weights are those of the model.

    Args:
        expected: The model's tensors by name.
        given: The checkpoint's.
        path: Of the checkpoint, for the message.

    Raises:
        CheckpointFileError: Names the first difference and the way out.
    """
    shapes = {name.removeprefix('module.'): tuple(tensor.shape) for name, tensor in given.items()}
    differences = [
        f'{name} has shape {tuple(tensor.shape)} in the model and '
        f'{shapes.get(name, "is missing")} in the checkpoint'
        for name, tensor in expected.items()
        if shapes.get(name) != tuple(tensor.shape) and 'num_batches_tracked' not in name
    ] + [f'{name} is in the checkpoint alone' for name in shapes if name not in expected]
    if differences:
        raise CheckpointFileError(
            f'{path} is of another model ({len(differences)} differences): {differences[0]}. '
            f'Resuming needs the same model. {WEIGHTS_ONLY.format(path=path)}'
        )


def _restore_seed(runner: Runner, meta: dict[str, Any]) -> None:
    """Without a seed in the config, that of the checkpoint's run goes on."""
    randomness = randomness_of(runner)
    if randomness.get('seed') is not None or meta.get('seed') is None:
        return
    runner.set_randomness(**{**randomness, 'seed': meta['seed']})
    loader = runner.train_dataloader
    batches = getattr(loader.batch_sampler, 'batch_sampler', loader.batch_sampler)  # as it was
    sampler = getattr(batches, 'sampler', loader.sampler)
    for part in (batches, sampler):
        if hasattr(part, 'seed'):
            part.seed = meta['seed']
    begin_again(sampler)


def _restore_progress(runner: Runner, meta: dict[str, Any]) -> None:
    """Set the loop to the same share of the epoch, for any length that the epoch has now."""
    loop = runner.train_loop
    epoch, iteration = int(meta['epoch']), int(meta['iter'])
    seen = iteration * meta.get('images_per_iteration', images_per_iteration(runner))
    seen = meta.get('images_seen', seen)
    loop.resumed_at = seen, iteration
    if hasattr(loop, 'dataloader_iterator'):  # counts iterations alone
        set_progress(loop, epoch, iteration)
        return
    length = len(loop.dataloader)
    old_length = meta.get('epoch_length') or (iteration // epoch if epoch else length)
    position = iteration - epoch * old_length  # in the epoch
    if position and not hasattr(loop, 'first_batch'):
        raise CheckpointFileError(
            f'The checkpoint was saved in mid-epoch ({position} of {old_length} iterations), where '
            f"{type(loop).__name__} cannot go on: set train_cfg.type='ibot_mm.EpochBasedTrainLoop'."
        )
    iteration = epoch * length + round(position * length / old_length)
    set_progress(loop, epoch, iteration)
    loop.resumed_at = seen, iteration


def _restore_optimizer(wrapper: OptimWrapper, saved: dict[str, Any], path: str | Path) -> None:
    """Moments and step counts of the checkpoint; rates, decay and the like of the config."""
    groups, old_groups = wrapper.optimizer.param_groups, saved['param_groups']
    sizes, old_sizes = ([len(group['params']) for group in each] for each in (groups, old_groups))
    if sizes != old_sizes:
        raise CheckpointFileError(
            f'{path} has moments for groups of {old_sizes} parameters, this run has groups of '
            f'{sizes}: optim_wrapper.constructor, paramwise_cfg or what is frozen differ. Make '
            f'them the same. {WEIGHTS_ONLY.format(path=path)}'
        )
    numbers = [{k: v for k, v in group.items() if k != 'params'} for group in groups]
    saved = dict(saved)
    saved.pop('base_param_settings', None)
    parameters = [parameter for group in groups for parameter in group['params']]
    saved['state'] = {
        index: {
            key: shard_like(value, parameters[index]) if isinstance(value, Tensor) else value
            for key, value in state.items()
        }
        for index, state in saved['state'].items()
    }
    saved['param_groups'] = [
        dict(number, params=old['params']) for number, old in zip(numbers, old_groups)
    ]
    wrapper.load_state_dict(saved)


def _report(runner: Runner, meta: dict[str, Any], path: str | Path) -> None:
    """Say where the run goes on, and each setting that differs, once."""
    runner.logger.info(f'resumed epoch: {runner.epoch}, iter: {runner.iter} (from {path})')
    if runner.iter != meta['iter']:
        runner.logger.info(
            f'The checkpoint was saved after {meta["iter"]} iterations of its run; the epoch has '
            'another length now, so this run goes on at the same share of it.'
        )
    if 'settings' not in meta:
        runner.logger.info('The checkpoint does not hold its settings; they are not compared.')
        return
    lines = describe_differences(meta['settings'], collect_settings(runner))
    if lines:
        runner.logger.warning(
            "Settings that differ from the checkpoint's, and what that does:\n    "
            + '\n    '.join(lines)
        )
