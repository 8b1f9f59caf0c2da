# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The same data in all processes, and after a resume."""

import json
from typing import Any

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.registry import HOOKS

KEY = 'train_data'  # in checkpoints


@HOOKS.register_module()
class SameDataHook(Hook):
    """Stops, before training, where processes see different data, or a resume sees other data.

    Processes compare the number of their images, and of stores the images' names, places and
    labels. A checkpoint holds the same. A training that goes on at the beginning of an epoch may
    have other data, which one line of the log says. Within an epoch it may not: images would be
    trained on twice, or not at all.

    Args:
        on_change: What a resume with other data within an epoch does: ``'raise'`` or ``'warn'``.
            Defaults to ``'raise'``.

    Raises:
        ValueError: ``on_change`` is neither of the two.
        RuntimeError: On all processes, if the data differ. Says how.
    """

    priority = 'NORMAL'

    def __init__(self, on_change: str = 'raise') -> None:
        if on_change not in ('raise', 'warn'):
            raise ValueError(
                f"SameDataHook: on_change must be 'raise' or 'warn', got {on_change!r}"
            )
        self.on_change = on_change

    def before_train(self, runner: Runner) -> None:
        """Compare, and note for checkpoints."""
        data = describe(runner.train_dataloader)
        seen = all_gather_object(data)
        if any(other != seen[0] for other in seen):
            each = '\n'.join(f'    process {rank}: {_text(one)}' for rank, one in enumerate(seen))
            raise RuntimeError(
                f'The processes see different training data:\n{each}\nGive all machines the same '
                'images, under the same names (a copy may be incomplete), and the same config.'
            )
        before = json.loads(runner.message_hub.get_info(KEY, 'null'))
        if runner.iter and before is not None and before != data:
            self._resume_with(runner, before, data)
        runner.message_hub.update_info(KEY, json.dumps(data))

    def _resume_with(self, runner: Runner, before: dict[str, Any], data: dict[str, Any]) -> None:
        loop: Any = runner.train_loop
        within = getattr(loop, 'first_batch', runner.iter % max(len(loop.dataloader), 1))
        change = f'{_text(before)}, and now {_text(data)}'
        if not within:
            if {**before, 'order': ''} != {**data, 'order': ''}:
                runner.logger.warning(
                    f'The training data have changed: the checkpoint is of {change}.'
                )
            return
        message = (
            f'The checkpoint was saved within an epoch of other training data, or of another order '
            f'of them: {change}. Images would be trained on twice, or not at all. Restore what it '
            'was, go on from a checkpoint at the end of an epoch, or set '
            "default_hooks.same_data.on_change='warn'."
        )
        if self.on_change == 'raise':
            raise RuntimeError(message)
        runner.logger.warning(message)


def describe(loader: Any) -> dict[str, Any]:
    """Describe what a data loader reads: number, fingerprint, and what its order depends on."""
    dataset = loader.dataset
    sampler = getattr(getattr(loader, 'batch_sampler', None), 'sampler', None)
    return dict(
        images=len(dataset),
        fingerprint=''.join(_fingerprints(dataset)),
        order=getattr(sampler, 'order_depends_on', ''),
    )


def _fingerprints(dataset: Any) -> list[str]:
    """Fingerprints of a data set and of those within it."""
    inner = [*getattr(dataset, 'datasets', []), getattr(dataset, 'dataset', None)]
    own = [dataset.fingerprint()] if hasattr(dataset, 'fingerprint') else []
    return own + [text for part in inner if part is not None for text in _fingerprints(part)]


def _text(data: dict[str, Any]) -> str:
    details = [data['fingerprint'][:16], data['order']]
    return f'{data["images"]} images' + ''.join(f', {text}' for text in details if text)
