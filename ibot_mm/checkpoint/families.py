# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Families of networks, each behind the same few methods."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from .checkpoint import Checkpoint
from .export import Export
from .locate import CheckpointError
from .recognize import Network, find_networks
from .report import LoadReport
from .swin import Swin
from .timm_models import TimmModel
from .vit import ViT


class Family(Protocol):
    """What is done with networks of one kind.

    ``assume`` is always what nothing in the file tells, name of a part -> value.
    """

    @property
    def name(self) -> str:
        """That of :attr:`Network.family`."""

    def is_for(self, backbone: nn.Module) -> bool:
        """Whether a module is a backbone of this family."""

    def compare(
        self,
        backbone: nn.Module,
        network: Network,
        checkpoint: Checkpoint,
        assume: Mapping[str, Any] | None = None,
    ) -> tuple[LoadReport, dict[str, Tensor]]:
        """Compare a backbone with a network of a checkpoint, and load nothing.

        Returns:
            What would be loaded and what keeps the rest from it, and the weights for the backbone.

        Raises:
            CheckpointError: If the network is of a kind that the backbone cannot be.
        """

    def options(
        self, network: Network, checkpoint: Checkpoint, assume: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The config of a backbone of this project that the network fills.

        Raises:
            CheckpointError: If there is none, or something must be told.
        """

    def facts(self, network: Network, checkpoint: Checkpoint) -> dict[str, str]:
        """What the network is: title -> words."""

    def config(self, backbone: nn.Module) -> dict[str, Any]:
        """The config that builds a backbone of this project."""

    def export(self, backbone: nn.Module, library: str) -> Export:
        """Give the weights of a backbone of this project the names and form of a library."""


FAMILIES: tuple[Family, ...] = (TimmModel(), Swin(), ViT())


def family_of(backbone: nn.Module) -> Family:
    """The family of a backbone.

    Raises:
        CheckpointError: If it is of none.
    """
    for family in FAMILIES:
        if family.is_for(backbone):
            return family
    name = type(backbone).__name__
    inside = [network.prefix[:-1] for network in find_networks(backbone.state_dict())]
    if inside:
        places = ' or '.join(f"'{place}'" for place in inside)
        raise CheckpointError(
            f'Weights are for a backbone, and {name} only contains one: move the init_cfg into '
            f'the config of {places}.'
        )
    raise CheckpointError(
        f"{name} is neither a ViT with mmpretrain's or mmseg's parameter names, such as "
        'ibot_mm.MaskedVisionTransformer, ibot_mm.ViTPyramid or mmpretrain.VisionTransformer, nor '
        'ibot_mm.TimmVisionTransformer, nor a Swin of an mm package.'
    )


def family_named(network: Network) -> Family:
    """The family of a network in a checkpoint."""
    return next(family for family in FAMILIES if family.name == network.family)
