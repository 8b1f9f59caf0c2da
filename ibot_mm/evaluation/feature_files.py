# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Files of features with the names of their images, written as the features come."""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

SUFFIXES = ('.npy', '.safetensors', '.parquet')


class FeatureWriter(Protocol):
    """Takes features in order; the file is there once it is closed."""

    def write(self, features: NDArray) -> None:
        """Append rows (B, ...)."""

    def close(self) -> None:
        """Finish the file."""


def check_feature_file(path: str | Path) -> None:
    """Refuse a file that could not be written.

    Raises:
        ValueError: If the suffix is not one of ``SUFFIXES``.
        ImportError: If it is a parquet, and pyarrow is not installed.
    """
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise ValueError(
            f'features are written to {", ".join(SUFFIXES)}, got {str(path)!r}: change its suffix'
        )
    if suffix == '.parquet' and find_spec('pyarrow') is None:
        raise ImportError('.parquet needs pyarrow: pip install pyarrow, or write .safetensors')


def open_writer(path: str | Path, names: Sequence[str], shape: Sequence[int], dtype: str) -> Any:
    """Choose the kind of file by its suffix.

    Args:
        path: ``.npy``, with the names in ``.txt`` beside it, one a line; ``.safetensors``, with
            ``features`` and the names as JSON in its metadata; ``.parquet``, with the columns
            ``name`` and ``feature``.
        names: Of the images, in their order.
        shape: Of one image's feature.
        dtype: 'float32' or 'float16'.

    Raises:
        ValueError: If a name has a line break; see also :func:`check_feature_file`.
    """
    check_feature_file(path)
    kinds = dict(zip(SUFFIXES, (_Numpy, _Safetensors, _Parquet)))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return kinds[Path(path).suffix](Path(path), names, tuple(shape), np.dtype(dtype))


class _Numpy:
    def __init__(
        self, path: Path, names: Sequence[str], shape: tuple[int, ...], dtype: np.dtype
    ) -> None:
        if broken := [name for name in names if '\n' in name]:
            raise ValueError(f'the name {broken[0]!r} has a line break: write .safetensors')
        self.path, self.names, self.row = path, names, 0
        self.temporary = path.with_name(f'{path.name}.tmp')
        self.memory = np.lib.format.open_memmap(self.temporary, 'w+', dtype, (len(names), *shape))

    def write(self, features: NDArray) -> None:
        self.memory[self.row : self.row + len(features)] = features
        self.row += len(features)

    def close(self) -> None:
        self.memory.flush()
        self.path.with_suffix('.txt').write_text(''.join(f'{name}\n' for name in self.names))
        self.temporary.replace(self.path)


class _Safetensors:
    """By hand, since the library's own writer holds all of it in memory."""

    def __init__(
        self, path: Path, names: Sequence[str], shape: tuple[int, ...], dtype: np.dtype
    ) -> None:
        self.path, self.dtype = path, dtype
        self.temporary = path.with_name(f'{path.name}.tmp')
        full = [len(names), *shape]
        size = int(np.prod(full)) * dtype.itemsize
        kind = {4: 'F32', 2: 'F16'}[dtype.itemsize]
        header = json.dumps(
            dict(
                __metadata__=dict(names=json.dumps(list(names))),
                features=dict(dtype=kind, shape=full, data_offsets=[0, size]),
            )
        ).encode()
        header += b' ' * (-len(header) % 8)
        self.file = open(self.temporary, 'wb')
        self.file.write(len(header).to_bytes(8, 'little') + header)

    def write(self, features: NDArray) -> None:
        self.file.write(np.ascontiguousarray(features, self.dtype.newbyteorder('<')).tobytes())

    def close(self) -> None:
        self.file.close()
        self.temporary.replace(self.path)


class _Parquet:
    def __init__(
        self, path: Path, names: Sequence[str], shape: tuple[int, ...], dtype: np.dtype
    ) -> None:
        import pyarrow
        import pyarrow.parquet

        self.arrow: Any = pyarrow
        self.path, self.names, self.row = path, names, 0
        self.type = pyarrow.list_(pyarrow.from_numpy_dtype(dtype), int(np.prod(shape)))
        schema = pyarrow.schema([('name', pyarrow.string()), ('feature', self.type)])
        schema = schema.with_metadata(dict(shape=json.dumps(shape)))
        self.temporary = path.with_name(f'{path.name}.tmp')
        self.writer = pyarrow.parquet.ParquetWriter(self.temporary, schema)
        self.schema = schema

    def write(self, features: NDArray) -> None:
        names = list(self.names[self.row : self.row + len(features)])
        self.row += len(features)
        flat = self.arrow.array(features.reshape(-1), self.type.value_type)
        columns = [
            self.arrow.array(names),
            self.arrow.FixedSizeListArray.from_arrays(flat, type=self.type),
        ]
        self.writer.write_batch(self.arrow.record_batch(columns, schema=self.schema))

    def close(self) -> None:
        self.writer.close()
        self.temporary.replace(self.path)
