# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The family of plain Vision Transformers: our backbones, mmpretrain's, mmseg's."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from .adapt import adapt
from .architecture import describe_backbone, describe_network, grid_of
from .export import LIBRARIES, Export, express_vit
from .family import Family
from .locate import CheckpointError
from .recognize import SWIN, VIT, Network, find_networks
from .report import LoadReport, size_of
from .specification import PARTS


class ViT(Family):
    """Plain Vision Transformers."""

    name = VIT

    def is_for(self, backbone: nn.Module) -> bool:
        found = find_networks(backbone.state_dict())
        return any(not n.prefix and n.family == VIT and n.num_layers for n in found)

    def compare(
        self,
        backbone: nn.Module,
        network: Network,
        inflate: str | Sequence[int | None] = 'repeat',
    ) -> LoadReport:
        _refuse_foreign(network)
        grid = grid_of(backbone)
        theirs, ours = describe_network(network, grid), describe_backbone(backbone)
        title = type(backbone).__name__
        return adapt(network, theirs, backbone.state_dict(), ours, title, grid, inflate=inflate)

    def options(self, network: Network) -> dict[str, Any]:
        _refuse_foreign(network)
        return dict(type='ibot_mm.MaskedVisionTransformer', **describe_network(network).options())

    def facts(self, network: Network) -> dict[str, str]:
        _refuse_foreign(network)
        vit = describe_network(network)
        grid = f', {vit.grid[0]} x {vit.grid[1]} patches' if vit.grid else ''
        words = [
            part.words[not vit.values[part.name]].format(number=vit.values[part.name])
            for part in PARTS
        ]
        facts = {
            'patch': ' x '.join(map(str, vit.patch_size)),
            'width': f'{vit.embed_dims}, {vit.hidden} in the feed-forward network',
            'depth': str(vit.num_layers),
            'heads': f'{vit.num_heads or "unknown"}, {vit.sources["num_heads"]}',
            'activation': f'{vit.activation}, {vit.sources["activation"]}',
            'positions': vit.positions.replace('learned', f'learned{grid}'),
            'extras': ', '.join(word for word in words if word) or 'none',
            'parameters': size_of(network.weights.state),
        }
        for part, title in dict(activation='activation', rotary='positions').items():
            if part in vit.unclear:
                facts[title] = 'unclear: must be told'
        return facts

    def config(self, backbone: nn.Module) -> dict[str, Any]:
        options = describe_backbone(backbone).options()
        return dict(type=f'ibot_mm.{type(backbone).__name__}', **options)

    def export(self, backbone: nn.Module, library: str) -> Export:
        vit = describe_backbone(backbone)
        return express_vit(backbone.state_dict(), vit, LIBRARIES[library](vit), library)


def _refuse_foreign(network: Network) -> None:
    """Refuse what no ViT here is."""
    if network.family == SWIN:
        raise CheckpointError('it holds a Swin Transformer, and the backbone is a ViT')
    if network.foreign_kind:
        raise CheckpointError(f'it holds {network.foreign_kind}')
    if not network.num_layers:
        raise CheckpointError('it holds a ViT whose layers have names of no known format')
