# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The family of plain Vision Transformers: our backbones, mmpretrain's, mmseg's."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from .adapt import adapt
from .architecture import Architecture, describe_backbone, describe_network, positions, read_parts
from .checkpoint import Checkpoint
from .convert import revert
from .export import Export, express_vit
from .locate import CheckpointError
from .parts import PARTS, UNSEEN
from .recognize import SWIN, VIT, Network, find_networks, foreign_kind
from .report import LoadReport, size_of
from .vit_targets import LIBRARIES


class ViT:
    """See :class:`ibot_mm.checkpoint.families.Family`."""

    name = VIT

    def is_for(self, backbone: nn.Module) -> bool:
        """Whether a module is a ViT whose names a table knows."""
        return any(not n.prefix and n.family == VIT for n in find_networks(backbone.state_dict()))

    def compare(
        self,
        backbone: nn.Module,
        network: Network,
        checkpoint: Checkpoint,
        assume: Mapping[str, Any] | None = None,
    ) -> tuple[LoadReport, dict[str, Tensor]]:
        """Compare a backbone with a network of a checkpoint, and load nothing."""
        refuse_foreign(network)
        module: Any = backbone
        own = module.state_dict()
        target = next(n for n in find_networks(own) if not n.prefix)
        values = read_parts(target.weights.state) | {
            p.name: p.module(module) for p in UNSEEN if p.module
        }
        grid = _grid_of(module)
        values['grid'] = grid if 'pos_embed' in target.weights.state else None
        theirs = describe_network(network, checkpoint, assume, grid)
        return fill(
            network,
            checkpoint,
            theirs,
            target,
            Architecture(values),
            own,
            type(module).__name__,
            grid,
        )

    def options(
        self, network: Network, checkpoint: Checkpoint, assume: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The config of a backbone of this project that the network fills."""
        refuse_foreign(network)
        architecture = describe_network(network, checkpoint, assume)
        return dict(type='ibot_mm.MaskedVisionTransformer', **architecture.options())

    def facts(self, network: Network, checkpoint: Checkpoint) -> dict[str, str]:
        """What the network is: title -> words."""
        refuse_foreign(network)
        vit = describe_network(network, checkpoint)
        grid = f', {vit.grid[0]} x {vit.grid[1]} patches' if vit.grid else ''
        words = [
            part.words[not vit.values[part.name]].format(number=vit.values[part.name])
            for part in PARTS
        ]
        unclear = 'unclear: must be told'
        return {
            'patch': ' x '.join(map(str, vit.patch_size)),
            'width': f'{vit.embed_dims}, {vit.hidden} in the feed-forward network',
            'depth': str(vit.num_layers),
            'heads': f'{vit.num_heads or "unknown"}, {vit.sources["num_heads"]}',
            'activation': f'{vit.activation}, {vit.sources["activation"]}'
            if 'activation' not in vit.unclear
            else unclear,
            'positions': positions(vit).replace('learned', f'learned{grid}')
            if 'rotary' not in vit.unclear
            else unclear,
            'extras': ', '.join(word for word in words if word) or 'none',
            'parameters': size_of(network.weights.state),
        }

    def config(self, backbone: nn.Module) -> dict[str, Any]:
        """The config that builds a backbone of this project."""
        options = describe_backbone(backbone).options()
        return dict(type=f'ibot_mm.{type(backbone).__name__}', **options)

    def export(self, backbone: nn.Module, library: str) -> Export:
        """Give the weights of a backbone the names and form of a library."""
        target = LIBRARIES[library](describe_backbone(backbone))
        return express_vit(backbone.state_dict(), target, library)


def refuse_foreign(network: Network) -> None:
    """Refuse a network that no ViT here is.

    Raises:
        CheckpointError: With what it is.
    """
    kind = 'a Swin Transformer' if network.family == SWIN else _foreign_kind(network)
    if kind:
        raise CheckpointError(f'it holds {kind}, and the backbone is a ViT')


def _foreign_kind(network: Network) -> str | None:
    return foreign_kind(network.prefix + name for name in network.own)


def fill(
    network: Network,
    checkpoint: Checkpoint,
    theirs: Architecture,
    target: Network,
    ours: Architecture,
    own: Mapping[str, Tensor],
    title: str,
    grid: tuple[int, int],
) -> tuple[LoadReport, dict[str, Tensor]]:
    """Adapt a network to a backbone of another format.

    Args:
        network: Of the checkpoint.
        checkpoint: The checkpoint.
        theirs: What its network is.
        target: The backbone as a network.
        ours: What it is.
        own: Its state dict.
        title: Its class.
        grid: Patches (h, w) of its images.

    Returns:
        What would be loaded and what keeps the rest from it, and the weights under names of
        ``own``.
    """
    computed = 'computed, not learned'
    report = LoadReport(
        checkpoint=checkpoint.location,
        format=network.format.title,
        network=network.prefix,
        backbone=title,
        unexpected=list(network.weights.unknown),
        left_out=left_out(checkpoint.tensors, network),
        # Such as a pyramid: no checkpoint of a ViT has it.
        new=[
            *target.weights.unknown,
            *(n for n, what in target.weights.left_out.items() if what != computed),
        ],
    )
    weights = adapt(
        network.weights.state, network.format, theirs, target.weights.state, ours, report, grid
    )
    state = revert(weights, target.format, own)
    report.loaded = list(state)
    return report, state


def left_out(names: Iterable[str], network: Network) -> dict[str, list[str]]:
    """Names of a checkpoint that no backbone needs, by what they are."""
    found: dict[str, list[str]] = {}
    for name, what in network.weights.left_out.items():
        found.setdefault(what, []).append(name)
    prefix = network.prefix
    beside = [_room(name, prefix) for name in names if not name.startswith(prefix)]
    return found | ({'heads and other networks': beside} if beside else {})


def _room(name: str, prefix: str) -> str:
    """A name up to where it leaves a prefix: ``'neck.*'`` beside ``'backbone.'``."""
    segments, shared = name.split('.'), prefix.split('.')
    depth = next((i for i, (a, b) in enumerate(zip(segments, shared)) if a != b), 0)
    return '.'.join(segments[: depth + 1]) + ('.*' if depth + 1 < len(segments) else '')


def _grid_of(module: Any) -> tuple[int, int]:
    """Patches of the images that a backbone is for."""
    if hasattr(module, 'patch_resolution'):
        return tuple(module.patch_resolution)
    sizes = [n if isinstance(n, tuple) else (n, n) for n in (module.img_size, module.patch_size)]
    (height, width), (h, w) = sizes
    return height // h, width // w
