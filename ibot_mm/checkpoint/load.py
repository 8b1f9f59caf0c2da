# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Filling a backbone with the weights of a checkpoint."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from .convert import revert
from .errors import CheckpointError
from .files import load_checkpoint_file
from .fit import fit
from .recognize import Network, find_networks, recognize
from .report import LoadReport
from .settings import Settings, read_settings


def load_pretrained_vit(
    module: nn.Module, checkpoint: str | Path, network: str = 'teacher', strict: bool = True
) -> LoadReport:
    """Fill a ViT with weights of any known format.

    Args:
        module: Backbone with mmpretrain's parameter names.
        checkpoint: See :func:`load_checkpoint_file`.
        network: See :func:`recognize`. Defaults to 'teacher'.
        strict: Whether weights that do not fit are an error; else they are a warning, and what
            fits is loaded. Defaults to True.

    Returns:
        What was loaded and what was not.

    Raises:
        CheckpointError: If the file cannot be read, holds no ViT, or its weights do not fit. The
            message names the causes and the options that end them.
    """
    tensors = load_checkpoint_file(checkpoint)
    try:
        source = recognize(tensors, network)
    except CheckpointError as error:
        raise CheckpointError(f'{checkpoint} cannot be used: {error}.') from error
    return fill(module, source, tensors, str(checkpoint), read_settings(checkpoint), strict)


def fill(
    module: nn.Module,
    source: Network,
    tensors: Iterable[str],
    checkpoint: str,
    settings: Settings,
    strict: bool = True,
) -> LoadReport:
    """Fill a ViT with a network of a checkpoint that has been read.

    Args:
        module: As of :func:`load_pretrained_vit`.
        source: The network.
        tensors: All names in the checkpoint, for the report.
        checkpoint: Where it came from, for messages.
        settings: What is told beside the weights.
        strict: As of :func:`load_pretrained_vit`. Defaults to True.
    """
    report, state = compare(module, source, tensors, checkpoint, settings)
    if report.differences and strict:
        raise CheckpointError(
            '\n'.join(
                [
                    f'{checkpoint} ({source.format.title}) does not fit {report.backbone}:',
                    *(f'  - {difference}' for difference in report.differences),
                    'With strict=False what fits is loaded, with a warning.',
                ]
            )
        )
    if not state:
        raise CheckpointError(f'{checkpoint}: no tensor of it fits {report.backbone}.')
    module.load_state_dict(state, strict=False)
    return report


def compare(
    module: nn.Module,
    source: Network,
    tensors: Iterable[str],
    checkpoint: str,
    settings: Settings,
) -> tuple[LoadReport, dict[str, Tensor]]:
    """Compare a ViT with a network of a checkpoint, as :func:`fill` does it, and load nothing.

    Returns:
        What would be loaded and what keeps the rest from it, and the weights for the module.
    """
    target = _network_of(module)
    report = LoadReport(
        checkpoint=checkpoint,
        format=source.format.title,
        network=source.prefix,
        backbone=type(module).__name__,
        unexpected=list(source.weights.unknown),
        left_out=_left_out(tensors, source),
        new=_without_counterpart(target),
    )
    _compare_settings(report, settings, source, module)
    weights = fit(
        source.weights.state,
        source.format,
        target.weights.state,
        grid=cast(Any, module).patch_resolution,
        rotary=getattr(module, 'rotary', False),
        report=report,
    )
    state = revert(weights, target.format, module.state_dict())
    report.loaded = list(state)
    return report, state


def _network_of(module: nn.Module) -> Network:
    """The module as one of the networks that formats describe."""
    networks = find_networks(module.state_dict())
    name = type(module).__name__
    for network in networks:
        if not network.prefix:
            return network
    if networks:
        places = ' or '.join(f"'{network.prefix[:-1]}'" for network in networks)
        raise CheckpointError(
            f'Weights of a ViT are for a ViT, and {name} only contains one: move the init_cfg '
            f'into the config of {places}.'
        )
    raise CheckpointError(
        f"{name} is no ViT with mmpretrain's parameter names, such as "
        'ibot_mm.MaskedVisionTransformer, ibot_mm.ViTPyramid or mmpretrain.VisionTransformer.'
    )


def _left_out(tensors: Iterable[str], source: Network) -> dict[str, list[str]]:
    """Names of a checkpoint that no backbone needs, by what they are."""
    left_out: dict[str, list[str]] = {}
    for name, what in source.weights.left_out.items():
        left_out.setdefault(what, []).append(name)
    beside = [_room(name, source.prefix) for name in tensors if not name.startswith(source.prefix)]
    return left_out | ({'heads and other networks': beside} if beside else {})


def _room(name: str, prefix: str) -> str:
    """A name up to where it leaves a prefix: ``'neck.*'`` beside ``'backbone.'``."""
    segments, shared = name.split('.'), prefix.split('.')
    depth = next((i for i, (a, b) in enumerate(zip(segments, shared)) if a != b), 0)
    return '.'.join(segments[: depth + 1]) + ('.*' if depth + 1 < len(segments) else '')


def _without_counterpart(target: Network) -> list[str]:
    """Names of a backbone that no checkpoint of a ViT has, such as those of a pyramid."""
    of_its_own = [n for n, w in target.weights.left_out.items() if w != 'computed, not learned']
    return [*target.weights.unknown, *of_its_own]


def _compare_settings(
    report: LoadReport, settings: Settings, source: Network, module: nn.Module
) -> None:
    """Compare what weights do not show, where it is known: heads and the eps of norms."""
    layer: Any = module.get_submodule('layers.0')
    heads, ours = settings.num_heads, layer.attn.num_heads
    if heads and heads != ours:
        report.differences.append(
            f'the checkpoint has {heads} attention heads, the backbone {ours}: set '
            f'num_heads={heads} in arch'
        )
    eps, ours = settings.norm_eps or source.format.norm_eps, layer.ln1.eps
    if eps and abs(eps - ours) > 2e-6:
        report.notes.append(
            f'Norms of its network have an eps of {eps}, those of the backbone {ours}: set '
            f"norm_cfg=dict(type='LN', eps={eps})."
        )
