# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Sizes of Vision Transformers, by their names in the papers or as a dict."""

from collections.abc import Mapping


def _arch(embed_dims: int, num_layers: int, num_heads: int) -> dict[str, int]:
    return dict(
        embed_dims=embed_dims,
        num_layers=num_layers,
        num_heads=num_heads,
        feedforward_channels=4 * embed_dims,
    )


ARCH_ZOO = {
    'tiny': _arch(192, 12, 3),
    'small': _arch(384, 12, 6),
    'base': _arch(768, 12, 12),
    'large': _arch(1024, 24, 16),
}


def resolve_arch(
    arch: str | dict[str, int], zoo: Mapping[str, dict[str, int]], title: str
) -> dict[str, int]:
    """Look up a size.

    Args:
        arch: Name or dict.
        zoo: Name -> dict.
        title: Class of the backbone, for messages.

    Raises:
        ValueError: If the name is not one of the zoo, or the dict lacks a key.
    """
    if isinstance(arch, str) and arch not in zoo:
        raise ValueError(
            f"Unknown arch '{arch}' of {title}: choose from {sorted(zoo)}, or give a dict with "
            'embed_dims, num_layers, num_heads and feedforward_channels.'
        )
    settings = zoo[arch] if isinstance(arch, str) else arch
    missing = set(ARCH_ZOO['base']) - set(settings)
    if missing:
        raise ValueError(f'The arch of {title} lacks {sorted(missing)}: got {arch}.')
    return settings
