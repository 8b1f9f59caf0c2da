# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""All images of a data set, in arrays."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from .index import ShardIndex, Texts


class ImageTable(Sequence[dict]):
    """Behaves as mmengine's list of dicts, at some 70 bytes an image, shared by forked workers.

    Args:
        shards: Paths of the shards.
        names: Of all images.
        shard: (N,), number of the shard of each image.
        locations: (N, k), where each lies in its shard.
        labels: (N,), or None without labels.
        rows: (M,), the images of this part, in order. Defaults to None: all.
    """

    def __init__(
        self,
        shards: Sequence[str],
        names: Texts,
        shard: np.ndarray,
        locations: np.ndarray,
        labels: np.ndarray | None,
        rows: np.ndarray | None = None,
    ) -> None:
        self.shards, self.names = shards, names
        self.shard, self.locations, self._labels = shard, locations, labels
        self._rows = rows

    @classmethod
    def of(cls, shards: Sequence[str], indices: Sequence[ShardIndex]) -> 'ImageTable':
        """Put the indices of shards together, with the labels that they hold."""
        return cls(
            shards,
            Texts.join(index.names for index in indices),
            np.repeat(np.arange(len(indices), dtype=np.int32), [len(index) for index in indices]),
            np.concatenate([index.locations for index in indices]),
            np.concatenate([index.labels for index in indices]),
        )

    def __len__(self) -> int:
        return len(self.names) if self._rows is None else len(self._rows)

    def __iter__(self) -> Iterator[dict]:
        return (self[number] for number in range(len(self)))

    @overload
    def __getitem__(self, number: int) -> dict: ...

    @overload
    def __getitem__(self, number: slice) -> 'ImageTable': ...

    def __getitem__(self, number: int | slice) -> Any:
        if isinstance(number, slice):
            return self.take(np.arange(len(self))[number])
        row = range(len(self))[number]
        row = row if self._rows is None else int(self._rows[row])
        shard = int(self.shard[row])
        name = self.names[row]
        info: dict[str, Any] = dict(
            img_path=f'{self.shards[shard]}/{name}',
            stored=(shard, name, tuple(self.locations[row].tolist())),
        )
        if self._labels is not None:
            info['gt_label'] = int(self._labels[row])
        return info

    def take(self, numbers: np.ndarray) -> 'ImageTable':
        """Return a part, in the order of the given numbers."""
        rows = numbers if self._rows is None else self._rows[numbers]
        return ImageTable(self.shards, self.names, self.shard, self.locations, self._labels, rows)

    def with_labels(self, labels: np.ndarray | None) -> 'ImageTable':
        """Return all images with other labels, (N,), or without any."""
        return ImageTable(self.shards, self.names, self.shard, self.locations, labels)

    @property
    def labels(self) -> np.ndarray | None:
        """Labels of this part, (M,)."""
        if self._labels is None or self._rows is None:
            return self._labels
        return self._labels[self._rows]

    @property
    def blocks(self) -> np.ndarray:
        """Number of the shard of each image of this part, (M,)."""
        return self.shard if self._rows is None else self.shard[self._rows]

    def fingerprint(self) -> str:
        """Return a hash of names, places and labels, equal where the same images are seen."""
        digest = hashlib.blake2b(digest_size=8)
        for array in (self.names.content, self.names.ends, self.locations, self._rows):
            digest.update(b'' if array is None else np.ascontiguousarray(array).tobytes())
        if self._labels is not None:
            digest.update(np.ascontiguousarray(self._labels).tobytes())
        return digest.hexdigest()
