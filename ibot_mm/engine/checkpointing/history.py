# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Log histories and other entries of the message hub, as plain data."""

import os.path
from typing import Any

import torch
from mmengine.logging import HistoryBuffer, MessageHub

from ibot_mm.engine.mmengine_state import resumed_keys_of

# What the run that goes on sets by itself.
_OWN = {'cfg', 'seed', 'experiment_name', 'epoch', 'iter', 'max_epochs', 'max_iters', 'last_ckpt',
        'loop_stage', 'keep_ckpt_ids', 'mmengine_version', 'dataset_meta', 'eta'}  # fmt: skip


def collect_history(hub: MessageHub) -> dict[str, Any]:
    """Return the state of a message hub.

    Args:
        hub: The hub.

    Returns:
        ``log_history``, values and counts by name, and ``message_hub`` in mmengine's form, which
        mmengine too can read.
    """
    resumed = resumed_keys_of(hub)
    history = {
        name: dict(zip(('values', 'counts'), map(torch.from_numpy, buffer.data)))
        for name, buffer in hub.log_scalars.items()
        if resumed.get(name)
    }
    info = {
        key: os.path.basename(value) if key.startswith('best_ckpt') else value  # a folder can move
        for key, value in hub.runtime_info.items()
        if resumed.get(key) and key not in _OWN
    }
    keys = {key: True for key in info}
    return dict(
        log_history=history, message_hub=dict(log_scalars={}, runtime_info=info, resumed_keys=keys)
    )


def restore_history(hub: MessageHub, content: dict[str, Any]) -> None:
    """Take over the state of a message hub from a checkpoint of ours or of mmengine.

    Args:
        hub: The hub.
        content: The checkpoint.
    """
    state = content.get('message_hub', {})
    histories = {
        name: HistoryBuffer(entry['values'].numpy(), entry['counts'].numpy())
        for name, entry in content.get('log_history', {}).items()
    }
    histories.update(
        (name, buffer)
        for name, buffer in state.get('log_scalars', {}).items()
        if isinstance(buffer, HistoryBuffer)
    )
    for name, buffer in histories.items():
        hub.log_scalars[name] = buffer
        resumed_keys_of(hub)[name] = True
    for key, value in state.get('runtime_info', {}).items():
        if key not in _OWN:
            hub.update_info(key, value)
