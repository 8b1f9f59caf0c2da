# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Tables with encoded images: parquet, and Arrow files of Hugging Face's ``save_to_disk``."""

import json
import os
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ibot_mm.datasets.store_error import StoreError

from .index import NO_LABEL, ShardIndex, Texts
from .retries import EXTRA
from .store import ImageStore

CACHED = 2  # row groups that a process keeps decoded


@dataclass
class TableStore(ImageStore):
    """Images in a column of bytes, or of Hugging Face's ``{bytes, path}``.

    Parquet is compressed in groups of rows: to read one image, all images of its group are decoded.
    Arrow files are mapped into memory and give each row at once.

    Args:
        image_column: Name of the column. Defaults to 'image'.
        label_column: Name of the column of class numbers. Defaults to 'label'.
    """

    image_column: str = 'image'
    label_column: str = 'label'
    _groups: OrderedDict[tuple[str, int], Any] = field(
        default_factory=OrderedDict, init=False, repr=False
    )
    _tables: dict[tuple[str, int], Any] = field(default_factory=dict, init=False, repr=False)

    suffixes = ('.parquet', '.arrow')
    num_threads = 4

    @property
    def settings(self) -> Any:
        """What an index depends on, besides the shard."""
        return type(self).__name__, self.image_column, self.label_column

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), '_groups': OrderedDict(), '_tables': {}}

    def count(self, path: str) -> ShardIndex:
        """Count the rows of each group, and read the labels."""
        table = self._open(path)
        if self.image_column not in table.columns:
            raise StoreError(
                f'{path} has no column {self.image_column!r} but {table.columns}: set image_column '
                'of the data set'
            )
        sizes = table.sizes
        locations = np.array(
            [(group, row) for group, size in enumerate(sizes) for row in range(size)], np.int64
        ).reshape(-1, 2)
        labels = np.full(len(locations), NO_LABEL, np.int64)
        if self.label_column in table.columns:
            column = table.column(self.label_column)
            if not all(value is None or isinstance(value, int) for value in column):
                raise StoreError(
                    f'{path}: column {self.label_column!r} does not hold class numbers: set '
                    "label_column of the data set, or '' for none"
                )
            labels[:] = [NO_LABEL if value is None else value for value in column]
        return ShardIndex(Texts.of(map(str, range(len(labels)))), locations, labels, Counter())

    def read(self, path: str, name: str, location: tuple[int, ...]) -> bytes:
        """Read an image, and the group of rows that it is in."""
        number, row = location
        key = path, number
        if key not in self._groups:
            table = self._open(path)
            if number >= len(table.sizes):
                raise StoreError(f'{path} was replaced after it was counted: begin again')
            request = f'reading rows {number} of {path}'
            group = self.files.retries.call(request, lambda: table.group(number, self.image_column))
            self._groups[key] = group
            while len(self._groups) > CACHED:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        value = self._groups[key][row].as_py()
        if isinstance(value, dict):
            content, origin = value.get('bytes'), value.get('path')
            if content is None and origin:
                raise StoreError(
                    f'{path}: row {name} holds a path ({origin}) and not the image itself: embed '
                    'the images, with datasets: dataset.to_parquet or push_to_hub'
                )
            value = content
        if value is not None and not isinstance(value, bytes):
            raise StoreError(
                f'{path}: column {self.image_column!r} holds {type(value).__name__} and not '
                'encoded images'
            )
        return value or b''

    def class_names(self, path: str) -> Sequence[str] | None:
        """Return the class names that Hugging Face's libraries note in a table."""
        about = (self._open(path).metadata or {}).get(b'huggingface')
        feature = json.loads(about)['info']['features'] if about else {}
        return (feature.get(self.label_column) or {}).get('names')

    def _open(self, path: str) -> '_Table':
        key = path, os.getpid()  # a forked process opens its own
        if key not in self._tables:
            try:
                import pyarrow as pa
            except ImportError as error:
                raise ImportError(f'{path} needs pyarrow: {EXTRA}') from error
            opener = _ArrowTable if path.endswith('.arrow') else _ParquetTable

            def open_table() -> _Table:
                try:
                    return opener(self, path)
                except pa.ArrowInvalid as error:
                    raise StoreError(
                        f'{path} is cut off or damaged ({error}): copy it anew'
                    ) from error

            self._tables[key] = self.files.retries.call(f'opening {path}', open_table)
        return self._tables[key]


class _Table(ABC):
    columns: list[str]
    sizes: list[int]
    metadata: dict[bytes, bytes] | None

    @abstractmethod
    def column(self, name: str) -> list[Any]:
        """Read all values of a column."""

    @abstractmethod
    def group(self, number: int, name: str) -> Any:
        """Read a column of one group of rows."""


class _ParquetTable(_Table):
    def __init__(self, store: TableStore, path: str) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(store.files.open(path))
        about = self._file.metadata
        self.columns = self._file.schema_arrow.names
        self.sizes = [about.row_group(i).num_rows for i in range(about.num_row_groups)]
        self.metadata = self._file.schema_arrow.metadata

    def column(self, name: str) -> list[Any]:
        return self._file.read([name]).column(name).to_pylist()

    def group(self, number: int, name: str) -> Any:
        return self._file.read_row_group(number, [name], use_threads=False).column(name)


class _ArrowTable(_Table):
    def __init__(self, store: TableStore, path: str) -> None:
        import pyarrow as pa

        source = pa.memory_map(store.files.local(path))
        try:
            reader = pa.ipc.open_stream(source)
            batches = list(reader)
        except pa.ArrowInvalid:
            reader = pa.ipc.open_file(source)
            batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self._batches = batches
        self.columns = reader.schema.names
        self.sizes = [len(batch) for batch in batches]
        self.metadata = reader.schema.metadata

    def column(self, name: str) -> list[Any]:
        return [value for batch in self._batches for value in batch.column(name).to_pylist()]

    def group(self, number: int, name: str) -> Any:
        return self._batches[number].column(name)
