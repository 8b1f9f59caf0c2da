# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Options that name layers of a Vision Transformer by their numbers."""

from collections.abc import Sequence


def resolve_indices(key: str, indices: Sequence[int] | int, num_layers: int) -> list[int]:
    """Return the indices of layers as a list of our own, counted from the first layer.

    Args:
        key: Name of the option, for the message.
        indices: One layer or several in increasing order; negative ones count from the end.
        num_layers: Number of layers of the network.

    Raises:
        ValueError: If there is none, one lies outside, or they are not in increasing order.
    """
    given = [indices] if isinstance(indices, int) else list(indices)
    resolved = [index + num_layers if index < 0 else index for index in given]
    outside = not all(0 <= index < num_layers for index in resolved)
    if outside or not resolved or resolved != sorted(set(resolved)):
        raise ValueError(
            f'{key}={given} of a network with {num_layers} layers: give different layers in '
            f'increasing order, from 0 to {num_layers - 1} or from -{num_layers} to -1.'
        )
    return resolved


def check_frozen_stages(frozen_stages: int, num_layers: int) -> int:
    """Return the option itself.

    Raises:
        ValueError: If it is not between -1, nothing, and the number of layers.
    """
    if not -1 <= frozen_stages <= num_layers:
        raise ValueError(
            f'frozen_stages must be between -1 (nothing) and {num_layers} (all layers), got '
            f'{frozen_stages}.'
        )
    return frozen_stages


def check_num_blocks(num_blocks: int, num_layers: int) -> int:
    """Return the number itself.

    Raises:
        ValueError: If it is not between 1 and the number of layers.
    """
    if not 1 <= num_blocks <= num_layers:
        raise ValueError(
            f'num_blocks must be between 1 and {num_layers}, the blocks of the network, got '
            f'{num_blocks}.'
        )
    return num_blocks
