# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What is done with networks of one kind."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import nn

from .export import Export
from .recognize import Network
from .report import LoadReport


class Family(ABC):
    """Networks of one kind, with the same few methods for each."""

    name: str  # that of :attr:`Network.family`

    @abstractmethod
    def is_for(self, backbone: nn.Module) -> bool:
        """Tell whether a module is a backbone of this family."""

    @abstractmethod
    def compare(
        self,
        backbone: nn.Module,
        network: Network,
        inflate: str | Sequence[int | None] = 'repeat',
    ) -> LoadReport:
        """Compare a backbone with a network of a checkpoint, and load nothing.

        Args:
            backbone: To be filled.
            network: Of the checkpoint.
            inflate: As of :func:`.channels.inflate_kernel`. Defaults to 'repeat'.

        Returns:
            What would be loaded, with the weights for it, and what keeps the rest from it.

        Raises:
            CheckpointError: If the network is of a kind that the backbone cannot be.
        """

    @abstractmethod
    def options(self, network: Network) -> dict[str, Any]:
        """Write the config of a backbone of this project that the network fills.

        Raises:
            CheckpointError: If there is none, or something must be told.
        """

    @abstractmethod
    def facts(self, network: Network) -> dict[str, str]:
        """Describe the network: title -> words."""

    @abstractmethod
    def config(self, backbone: nn.Module) -> dict[str, Any]:
        """Write the config that builds a backbone of this project."""

    @abstractmethod
    def export(self, backbone: nn.Module, library: str) -> Export:
        """Give the weights of a backbone of this project the names and form of a library."""
