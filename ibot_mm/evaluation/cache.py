# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Features on disk: a memory map that an interrupted extraction goes on from."""

import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from torch import Tensor, nn

FORMAT = 1  # of the folder; raised when its files change their meaning
FEATURES, DONE, KEY = 'features.npy', 'done.npy', 'key.json'
DTYPES = ('float32', 'float16')


class FeatureCacheError(RuntimeError):
    """A cache that is not complete, damaged, or of something else."""


class FeatureCache:
    """One row of features for each image of a data set.

    A folder with ``features.npy`` (N, C); ``done.npy`` (N,), which rows are there; ``key.json``,
    what they were made of. The folder's name holds a hash of the key, so that features of other
    weights, data or settings are never found. Processes write rows of their own by plain writes,
    and a row is marked after it was written.

    Args:
        root: Folder of all caches.
        name: What the folder's name begins with, such as 'train'.
        key: What the features depend on; JSON.
        shape: Number of images N and channels C.
        dtype: 'float32', or 'float16' for half the space. Defaults to 'float32'.

    Raises:
        FeatureCacheError: If the folder's content does not belong to the key.
        ValueError: If ``dtype`` is neither of the two.
    """

    def __init__(
        self,
        root: str | Path,
        name: str,
        key: Mapping[str, Any],
        shape: tuple[int, int],
        dtype: str = 'float32',
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f'dtype of features must be one of {DTYPES}, got {dtype!r}')
        self.key = json.loads(json.dumps(dict(key, dtype=dtype, format=FORMAT)))
        digest = hashlib.sha256(json.dumps(self.key, sort_keys=True).encode()).hexdigest()
        self.folder = Path(root) / f'{name}-{digest[:12]}'
        self.shape = shape
        self.dtype = np.dtype(dtype)
        if is_main_process() and not (self.folder / KEY).exists():
            self._create()
        barrier()
        self._check()

    def _create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, shape, dtype in (
            (FEATURES, self.shape, self.dtype),
            (DONE, self.shape[:1], np.dtype(np.uint8)),
        ):
            np.lib.format.open_memmap(self.folder / name, 'w+', dtype, shape).flush()
        # Written last, and at once: a folder with a key is whole.
        temporary = self.folder / f'{KEY}.tmp'
        temporary.write_text(json.dumps(self.key, indent=2) + '\n')
        temporary.replace(self.folder / KEY)

    def _check(self) -> None:
        advice = f'remove {self.folder}, or name another output folder'
        try:
            found = json.loads((self.folder / KEY).read_text())
            arrays = self._open(FEATURES, 'r'), self._open(DONE, 'r')
        except (OSError, ValueError) as error:
            raise FeatureCacheError(
                f'the feature cache {self.folder} cannot be read ({error}): {advice}'
            ) from error
        if found != self.key:
            differs = [n for n in {*found, *self.key} if found.get(n) != self.key.get(n)]
            raise FeatureCacheError(
                f'the feature cache {self.folder} belongs to something else; it differs in '
                f'{", ".join(sorted(differs))}: {advice}'
            )
        if arrays[0].shape != self.shape or arrays[1].shape != self.shape[:1]:
            raise FeatureCacheError(
                f'the feature cache {self.folder} holds {arrays[0].shape} features, expected '
                f'{self.shape}: {advice}'
            )

    def _open(self, name: str, mode: Any) -> np.memmap:
        return np.lib.format.open_memmap(self.folder / name, mode)

    def pending(self) -> np.ndarray:
        """Return the rows that are not there yet, in order."""
        return np.flatnonzero(np.asarray(self._open(DONE, 'r')) == 0)

    def write(self, rows: Sequence[int], features: Tensor) -> None:
        """Store rows and mark them.

        Args:
            rows: Their numbers.
            features: Shape (len(rows), C).

        Raises:
            FloatingPointError: If a value is not finite in the cache's type; the message has the
                number of the row in place of a name, ``rows`` of it in ``args[1]``.
        """
        with np.errstate(over='ignore'):  # seen below
            values = features.detach().cpu().numpy().astype(self.dtype)
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            row = int(rows[int(np.flatnonzero(~finite)[0])])
            raise FloatingPointError(f'the features of image {row} are not finite', row)
        _write_rows(self._open(FEATURES, 'r'), self.folder / FEATURES, rows, values)
        marks = np.ones(len(rows), dtype=np.uint8)
        _write_rows(self._open(DONE, 'r'), self.folder / DONE, rows, marks)

    def features(self) -> Tensor:
        """Return all features (N, C), mapped from the disk, not to be written to.

        Raises:
            FeatureCacheError: If some are missing.
        """
        missing = len(self.pending())
        if missing:
            raise FeatureCacheError(
                f'the feature cache {self.folder} lacks {missing} of {self.shape[0]} images: the '
                'extraction was interrupted; run it again, it goes on from there'
            )
        return torch.from_numpy(self._open(FEATURES, 'c'))  # changes would stay in memory


def _write_rows(memory: np.memmap, path: Path, rows: Sequence[int], values: np.ndarray) -> None:
    """Write runs of rows by plain writes: other processes write to the same pages of the file."""
    order = np.argsort(rows)
    numbers, values = np.asarray(rows)[order], np.ascontiguousarray(values[order])
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    size = values.itemsize * int(np.prod(values.shape[1:]))
    with open(path, 'r+b', buffering=0) as file:
        for first, run in zip(np.split(numbers, breaks), np.split(values, breaks)):
            _write_all(file.fileno(), run.tobytes(), memory.offset + int(first[0]) * size)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)


def fingerprint_weights(network: nn.Module) -> str:
    """Hash of all parameters and buffers of a network: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def fingerprint_images(paths: Sequence[str]) -> str:
    """Hash of a list of images: names, and of those on a local disk sizes and times of change.

    Names count from the folder that all have in common, so that it may move. Paths are read one by
    one: they need not be in memory.
    """
    digest = hashlib.sha256()
    start = os.path.dirname(paths[0])
    common = functools.reduce(lambda found, path: os.path.commonpath((found, path)), paths, start)
    for path in paths:
        digest.update(os.path.relpath(path, common).encode())
        if os.path.exists(path):
            status = os.stat(path)
            digest.update(f' {status.st_size} {status.st_mtime_ns}\n'.encode())
    return digest.hexdigest()
