# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The list of a packed folder: which shards there must be."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from ibot_mm.datasets.store_error import StoreError

from .files import PIPE, StoreFiles

NAME = 'pack.json'


@dataclass
class PackList:
    """What ``ibot-mm pack`` writes beside its shards, before the first of them.

    Args:
        num_images: Of the folder that is packed, broken ones included.
        images_per_shard: In each but the last.
        classes: Names of the class folders; none without labels.
        settings: What the packed images depend on.
    """

    num_images: int
    images_per_shard: int
    classes: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def shards(self) -> list[str]:
        """Names of the shards."""
        number = -(-self.num_images // self.images_per_shard)
        return [f'{shard:06d}.tar' for shard in range(number)]

    @classmethod
    def read(cls, files: StoreFiles, folder: str, suffixes: tuple[str, ...]) -> 'PackList | None':
        """Read the list of a folder of shards with these endings; None where it has none.

        Raises:
            StoreError: It cannot be understood.
        """
        is_file = folder.startswith(PIPE) or folder.endswith(suffixes)
        if is_file or any(mark in folder for mark in '*{?[') or '.tar' not in suffixes:
            return None
        path = f'{folder.rstrip("/")}/{NAME}'
        content = files.read_if_there(path)
        if content is None:
            return None
        try:
            return cls(**json.loads(content))
        except (ValueError, TypeError) as error:
            raise StoreError(f'{path} is not a list of packed images ({error})') from error

    def paths(self, folder: str) -> list[str]:
        """Return the paths of all shards."""
        return [f'{folder.rstrip("/")}/{name}' for name in self.shards]

    def to_text(self) -> str:
        """Return the content of the file."""
        return json.dumps(asdict(self), indent=1) + '\n'
