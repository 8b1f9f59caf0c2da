# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What one shard holds."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np

from .files import FileState

LAYOUT = 1  # of the index file; another number is counted anew
NO_LABEL = -1


class Texts:
    """Many short texts in two arrays, which processes share after a fork.

    Args:
        content: All texts in UTF-8, one after the other.
        ends: (N,), where each ends.
    """

    def __init__(self, content: np.ndarray, ends: np.ndarray) -> None:
        self.content, self.ends = content, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> 'Texts':
        """Store texts."""
        encoded = [text.encode('utf-8', 'surrogateescape') for text in texts]
        ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        return cls(np.frombuffer(b''.join(encoded), np.uint8), ends)

    @classmethod
    def join(cls, parts: Iterable['Texts']) -> 'Texts':
        """Put texts one after the other."""
        parts = list(parts)
        starts = np.cumsum([0, *(len(part.content) for part in parts)])
        ends = [part.ends + start for part, start in zip(parts, starts, strict=False)]
        return cls(np.concatenate([part.content for part in parts]), np.concatenate(ends))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> str:
        start = self.ends[number - 1] if number else 0
        content = self.content[start : self.ends[number]].tobytes()
        return content.decode('utf-8', 'surrogateescape')


@dataclass
class ShardIndex:
    """The images of one shard.

    Args:
        names: Of the images, as they are shown; with folders where the shard knows them.
        locations: (N, k) int64, where each lies, in terms of its kind of store.
        labels: (N,) int64 that the shard itself holds, -1 where it does not.
        passed_over: Number of other entries by kind.
        left_out: (name, reason) of images that packing could not read.
        state: Of the shard as it was counted.
    """

    names: Texts
    locations: np.ndarray
    labels: np.ndarray
    passed_over: Counter[str] = field(default_factory=Counter)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    state: FileState = FileState(-1)

    def __len__(self) -> int:
        return len(self.names)

    def to_bytes(self) -> bytes:
        """Return the content of an index file."""
        about = dict(
            layout=LAYOUT,
            size=self.state.size,
            version=self.state.version,
            passed_over=dict(self.passed_over),
            left_out=self.left_out,
        )
        file = BytesIO()
        np.savez_compressed(
            file,
            about=np.frombuffer(json.dumps(about).encode(), np.uint8),
            names=self.names.content,
            ends=self.names.ends,
            locations=self.locations,
            labels=self.labels,
        )
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> 'ShardIndex | None':
        """Read an index file; None if it is of another layout or not whole."""
        try:
            with np.load(BytesIO(content), allow_pickle=False) as arrays:
                about = json.loads(arrays['about'].tobytes())
                if about['layout'] != LAYOUT:
                    return None
                return cls(
                    Texts(arrays['names'], arrays['ends']),
                    arrays['locations'],
                    arrays['labels'],
                    Counter(about['passed_over']),
                    [(name, reason) for name, reason in about['left_out']],
                    FileState(about['size'], about['version']),
                )
        except Exception:  # numpy, zipfile and zlib each have errors of their own
            return None
