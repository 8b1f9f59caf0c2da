# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Images a second of one core, from a folder and from every kind of store.

``python -m benchmarks.stores`` reads photographs in a shuffled order and decodes them, by each data
set here, by torchvision's ``ImageFolder`` and by webdataset's loader, which reads tar shards from
their beginning to their end through a shuffle buffer. ``--large`` takes photographs of 12
megapixels, once more with reduced-size decoding; ``--crops`` adds the crops of the pre-training.
What counts is processor time.

``--latency`` and ``--bandwidth`` measure a slow store instead, a server on this machine: the time
that passes, with ``--workers`` processes.
"""

import argparse
import statistics
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from benchmarks import measurement
from benchmarks.loading import use_one_core, write_photographs
from benchmarks.reduced_decoding import write_large
from benchmarks.slow_store import serve
from ibot_mm.datasets import (
    ImageFolder,
    LMDBImages,
    LoadImage,
    MultiCrop,
    ParquetImages,
    ShardSampler,
    TarImages,
    ZipImages,
)
from ibot_mm.datasets.find_images import find_images
from ibot_mm.datasets.packing import pack_images

TORCHVISION, WEBDATASET = "torchvision's ImageFolder", "webdataset's loader"


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=256, help='number of images; default: 256')
    parser.add_argument('--per-shard', type=int, default=64, help='images of a shard; default: 64')
    parser.add_argument('--large', action='store_true', help='12 megapixels instead of 500 x 375')
    parser.add_argument('--crops', action='store_true', help='also cut the crops of pre-training')
    parser.add_argument('--rounds', type=int, default=5, help='turns of each side; default: 5')
    parser.add_argument('--latency', type=float, help='seconds before each answer of a slow store')
    parser.add_argument('--bandwidth', type=float, help='bytes a second of each of its answers')
    parser.add_argument('--workers', type=int, default=4, help='of a slow store; default: 4')
    parser.add_argument('--json', metavar='FILE', help='also write the figures here')
    return parser.parse_args(arguments)


def write_stores(images: Path, out: Path, per_shard: int) -> None:
    """Write the images of a folder into every kind of store, bytes as they are."""
    import lmdb
    import pyarrow as pa
    from pyarrow import parquet

    pack_images(str(images), out / 'tar', images_per_shard=per_shard, num_workers=1)
    names = find_images(str(images)).images
    contents = [(images / name).read_bytes() for name in names]
    with zipfile.ZipFile(out / 'images.zip', 'w') as archive:
        for name, content in zip(names, contents, strict=True):
            archive.writestr(name, content)
    environment = lmdb.open(str(out / 'images.lmdb'), map_size=2 * sum(map(len, contents)) + 2**24)
    with environment.begin(write=True) as transaction:
        for name, content in zip(names, contents, strict=True):
            transaction.put(name.encode(), content)
    environment.close()
    table = pa.table(dict(image=[dict(bytes=content, path='') for content in contents]))
    parquet.write_table(table, out / 'images.parquet', row_group_size=per_shard)
    with pa.OSFile(str(out / 'images.arrow'), 'wb') as file:
        with pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=per_shard)


def read_all(dataset: Any, order: Callable[[], Sequence[int]]) -> int:
    """Read all images in an order, another one each time."""
    numbers = order()
    for number in numbers:
        dataset[number]
    return len(numbers)


def webdataset_loader(shards: Sequence[Path], buffer: int, decode: Callable) -> Iterator[Any]:
    """Read shards as webdataset's users do."""
    import webdataset

    dataset = webdataset.WebDataset([str(s) for s in shards], shardshuffle=100, empty_check=False)
    return iter(dataset.shuffle(buffer).to_tuple('jpg').map_tuple(decode))


def decode_by_pillow(content: bytes) -> np.ndarray:
    """Decode as torchvision's and webdataset's loaders do."""
    from io import BytesIO

    from PIL import Image

    with Image.open(BytesIO(content)) as image:
        return np.asarray(image.convert('RGB'))


def sides_of(images: Path, stores: Path, args: argparse.Namespace) -> dict[str, Callable]:
    """Return each side: a function that reads all images and returns their number."""
    from torchvision.datasets import ImageFolder as TorchvisionFolder

    pipeline = [LoadImage(), *([MultiCrop()] if args.crops else [])]
    crop = MultiCrop()
    index = str(stores / 'index')

    turns = count()

    def permuted() -> list[int]:
        return np.random.default_rng(next(turns)).permutation(args.images).tolist()

    def build(dataset_class: Any, place: str, steps: list = pipeline) -> Any:
        return dataset_class(str(stores / place), pipeline=steps, index_dir=index)

    def by_shard(dataset: Any) -> list[int]:
        sampler = ShardSampler(dataset, seed=0, block_size=args.per_shard, buffer_size=64)
        sampler.set_epoch(next(turns))
        return list(sampler)

    def theirs(image: Any) -> Any:
        pixels = np.asarray(image)
        return crop(dict(img=pixels)) if args.crops else pixels

    datasets = {
        'folder': ImageFolder(str(images), pipeline=pipeline),
        'tar': build(TarImages, 'tar'),
        'zip': build(ZipImages, 'images.zip'),
        'LMDB': build(LMDBImages, 'images.lmdb'),
        'Arrow': build(ParquetImages, 'images.arrow'),
    }
    torchvision = TorchvisionFolder(str(images), transform=theirs)
    sides = {TORCHVISION: partial(read_all, torchvision, permuted)}
    sides |= {name: partial(read_all, dataset, permuted) for name, dataset in datasets.items()}
    in_blocks = build(ParquetImages, 'images.parquet')
    sides['parquet, ShardSampler'] = partial(read_all, in_blocks, partial(by_shard, in_blocks))
    if args.large:
        reduced = [LoadImage(min_decoded_size=crop.min_image_size), *pipeline[1:]]
        name = 'tar, reduced decoding'
        sides[name] = partial(read_all, build(TarImages, 'tar', reduced), permuted)
    shards = sorted((stores / 'tar').glob('*.tar'))

    def stream() -> int:
        decode = lambda content: theirs(decode_by_pillow(content))  # noqa: E731
        return sum(1 for _ in webdataset_loader(shards, 64, decode))

    return {**sides, WEBDATASET: stream}


def sides_of_slow_store(address: str, stores: Path, args: argparse.Namespace) -> dict:
    """Return the sides that read shards from a server."""
    names = [path.name for path in sorted((stores / 'tar').glob('*.tar'))]
    options = dict(data_root=address, data_prefix='tar', pipeline=[LoadImage()])

    def load(copies: bool) -> int:
        with tempfile.TemporaryDirectory() as folder:
            place = dict(cache_dir=folder) if copies else {}
            dataset = TarImages(**options, index_dir=f'{folder}/index', **place)
            sampler = ShardSampler(
                dataset, seed=0, block_size=args.per_shard, num_workers=max(args.workers, 1),
                batch_size=8,
            )  # fmt: skip
            loader = DataLoader(
                dataset, 8, sampler=sampler, num_workers=args.workers, collate_fn=len
            )
            return sum(loader)

    def stream() -> int:
        import webdataset

        urls = [f'pipe:curl -s -f {address}/tar/{name}' for name in names]
        dataset = webdataset.WebDataset(urls, shardshuffle=100, empty_check=False).shuffle(64)
        dataset = dataset.to_tuple('jpg').map_tuple(decode_by_pillow)
        return sum(DataLoader(dataset, 8, num_workers=args.workers, collate_fn=len))

    return {
        'tar, byte ranges': partial(load, False),
        'tar, whole copies': partial(load, True),
        WEBDATASET: stream,
    }


def measure(sides: dict[str, Callable], rounds: int, clock: Callable[[], float]) -> dict:
    """Measure milliseconds an image, of all sides in turns."""

    def timed(run: Callable[[], int]) -> list[float]:
        start = clock()
        number = run()
        return [1000 * (clock() - start) / number]

    return measurement.alternate({n: partial(timed, run) for n, run in sides.items()}, rounds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write images and stores, measure, report."""
    args = parse_args(arguments)
    warnings.filterwarnings('ignore')
    is_slow = args.latency is not None or args.bandwidth is not None
    with tempfile.TemporaryDirectory() as folder:
        images, stores = Path(folder, 'images'), Path(folder, 'stores')
        stores.mkdir()
        write = write_large if args.large else write_photographs
        write(images / 'photographs', args.images)
        write_stores(images, stores, args.per_shard)
        if is_slow:
            with serve(stores, args.latency or 0.0, args.bandwidth) as store:
                sides = sides_of_slow_store(store.address, stores, args)
                measured = measure(sides, args.rounds, time.perf_counter)
        else:
            use_one_core(1)
            sides = sides_of(images, stores, args)
            measured = measure(sides, args.rounds, time.process_time)
    title = 'A slow store' if is_slow else 'One core'
    measurement.report(title, 'ms an image', measured, vars(args), args.json)
    print_ratios(measured)


def print_ratios(measured: dict[str, list[float]]) -> None:
    """Print images a second, and how they compare with torchvision's and webdataset's loaders."""
    for name, values in measured.items():
        text = f'{name}: {1000 / statistics.median(values):.3g} images/s'
        for other in (TORCHVISION, WEBDATASET):
            if other in measured and other != name:
                pairs = zip(measured[other], values, strict=True)
                ratio = statistics.median(theirs / ours for theirs, ours in pairs)
                text += f', {ratio:.2f} times {other}'
        print(text)


if __name__ == '__main__':
    main()
