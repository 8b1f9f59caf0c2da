# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .files import FileState, StoreFiles
from .index import ShardIndex


@dataclass
class ImageStore(ABC):
    """One kind of store: what a shard holds, and how an image of it is read.

    Args:
        files: The store's files.
        extensions: Endings of images' names, in lower case.
    """

    files: StoreFiles
    extensions: tuple[str, ...]

    suffixes: ClassVar[tuple[str, ...]] = ('',)
    is_sorted = False  # whether entries are put into the order of a folder
    num_threads = 16  # that count shards

    @property
    def settings(self) -> Any:
        """What an index depends on, besides the shard."""
        return type(self).__name__, self.extensions

    def state(self, path: str) -> FileState:
        """Look up size and version of a shard."""
        return self.files.state(path)

    @abstractmethod
    def count(self, path: str) -> ShardIndex:
        """List the images of a shard.

        Raises:
            StoreError: If it is damaged, or the store does not answer.
        """

    @abstractmethod
    def read(self, path: str, name: str, location: tuple[int, ...]) -> bytes:
        """Read one encoded image.

        Raises:
            StoreError: If the shard is not what its index says, or the store does not answer.
        """

    def class_names(self, path: str) -> Sequence[str] | None:
        """Return names of the classes that a shard holds, None if it does not."""
        return None


@dataclass(frozen=True)
class StoredImage:
    """An image in a store, to be read when it is needed.

    Args:
        store: Reads it.
        path: Of the shard.
        name: In the shard.
        location: In the shard.
    """

    store: ImageStore
    path: str
    name: str
    location: tuple[int, ...]

    def read_bytes(self) -> bytes:
        """Read the encoded image."""
        return self.store.read(self.path, self.name, self.location)

    def __deepcopy__(self, memo: dict) -> 'StoredImage':
        return self
