# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A model, not a measurement, of pre-training on 1 to 512 GPUs: memory, traffic, hours, storage.

``python -m benchmarks.scale_model --page docs/scale.md`` writes its tables into the page. Counted
are tensors, operations and collectives of the configs' own networks; what is assumed is an option.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from benchmarks import cost
from benchmarks.step_model import FLOAT, Training

RECIPES = {
    'ViT-S/16': 'ibot_vits16', 'ViT-B/16': 'ibot_vitb16', 'ViT-L/16': 'ibot_vitl16_fsdp',
    'ViT-g/14': 'ibot_vitg14_fsdp',
}  # fmt: skip
WRAPPERS = {'ViT-S/16': ('DDP',), 'ViT-B/16': ('DDP',), 'ViT-L/16': ('DDP', 'FSDP', 'HSDP'),
            'ViT-g/14': ('FSDP', 'HSDP')}  # fmt: skip
GPUS = (8, 64, 512)
IMAGES = {'1.3 M': 1_281_167, '14 M': 14_197_122, '1 B': 10**9}
MIB, GIB = 2**20, 2**30
# Whether recomputed, whether in bf16, GiB: benchmarks/README.md, a training step on a CPU.
MEASURED = {
    'float32': (False, False, 2.76),
    'bfloat16': (False, True, 2.09),
    'float32, recomputed': (True, False, 1.64),
}


@dataclass
class Assumptions:
    """What was not measured here, as far as a function does not take it from the repository."""

    peak: float  # TFLOP/s of a GPU in 16 bits
    utilization: float  # share of it that a step reaches
    links: float  # GB/s that a GPU sends within a machine
    network: float  # GB/s that a GPU sends to other machines
    image_kb: float  # kB of an image's file
    core_rate: float  # images/s that a core loads; measured: 2.49 ms an image

    def images_per_second(self, training: Training) -> float:
        """Images that a GPU trains on in a second, by the operations alone."""
        return self.peak * 1e12 * self.utilization / training.operations

    def seconds_on_network(self, training: Training, wrapper: str, gpus: int) -> float:
        """Time of a step's traffic by itself."""
        sent = training.sent(wrapper, gpus)
        return sent['links'] / self.links / 1e9 + sent['network'] / self.network / 1e9


def load(name: str) -> Training:
    """Load a recipe."""
    return Training(Config.fromfile(cost.CONFIGS / f'{name}.py'))


def memory_table(trainings: dict[str, Training]) -> Iterator[list[str]]:
    """List what one GPU holds and sends."""
    yield [
        'recipe', 'trained + teacher, M', 'checkpoint, GiB',
        *(f'holds at {n}, GiB' for n in GPUS), *(f'sends at {n}, MiB' for n in GPUS),
    ]  # fmt: skip
    for name, training in trainings.items():
        trained = training.count(trained=True)
        for wrapper in WRAPPERS[name]:
            yield [
                f'{name}, {wrapper}',
                f'{trained / 1e6:.0f} + {(training.count() - trained) / 1e6:.0f}',
                f'{training.checkpoint_bytes / GIB:.1f}',
                *(f'{training.memory(wrapper, n) / GIB:.2f}' for n in GPUS),
                *(f'{sum(training.sent(wrapper, n).values()) / MIB:,.0f}' for n in GPUS),
            ]


def step_table(trainings: dict[str, Training], assumed: Assumptions) -> Iterator[list[str]]:
    """List what a step computes, needs beside the state, and reads."""
    yield [
        'recipe', 'images a GPU', 'activations, GiB', 'recomputed, GiB', 'GFLOP an image',
        'images/s a GPU', 'cores that load them', 'MB/s read',
        *(f'network at {n}' for n in GPUS),
    ]  # fmt: skip
    for name, training in trainings.items():
        rate = assumed.images_per_second(training)
        seconds = training.batch_size / rate
        network = [assumed.seconds_on_network(training, WRAPPERS[name][-1], n) for n in GPUS]
        yield [
            f'{name}, {WRAPPERS[name][-1]}',
            f'{training.batch_size}',
            *(f'{training.activation_bytes(again) / GIB:.1f}' for again in (False, True)),
            f'{training.operations / 1e9:,.0f}',
            f'{rate:,.0f}',
            f'{rate / assumed.core_rate:.1f}',
            f'{rate * assumed.image_kb / 1e3:,.0f}',
            *(f'{each / (seconds + each):.0%}' for each in network),
        ]


def epochs_table(trainings: dict[str, Training], assumed: Assumptions) -> Iterator[list[str]]:
    """List the hours of 100 epochs, in which nothing hides the network."""
    yield ['recipe', 'images', *(f'hours on {n}' for n in (1, *GPUS))]
    for name, training in trainings.items():
        seconds = training.batch_size / assumed.images_per_second(training)
        for label, images in IMAGES.items():
            hours = [
                100 * images / (n * training.batch_size) / 3600
                * (seconds + assumed.seconds_on_network(training, WRAPPERS[name][-1], n))
                for n in (1, *GPUS)
            ]  # fmt: skip
            yield [name, label, *(f'{h:,.0f}' if h >= 10 else f'{h:.1f}' for h in hours)]


def calibration_table() -> Iterator[list[str]]:
    """Set the model beside the peak memory that was measured on a CPU."""
    yield ['ViT-S/16, 8 images', 'model, GiB', 'measured, GiB']
    training = load('ibot_vits16')
    training.batch_size = 8
    for label, (recomputed, half, measured) in MEASURED.items():
        model = training.state_bytes() + training.activation_bytes(recomputed, half)
        yield [label, f'{model / GIB:.2f}', f'{measured:.2f}']


def storage_table(trainings: dict[str, Training], assumed: Assumptions) -> Iterator[list[str]]:
    """List what lies on disks."""
    channels = {name: training.model.backbone.embed_dims for name, training in trainings.items()}
    yield ['images', 'files, TB', 'index, GB', *(f'features of {name}, GB' for name in channels)]
    for label, images in IMAGES.items():
        yield [
            label,
            f'{images * assumed.image_kb / 1e9:,.2f}',
            f'{images * 70 / 1e9:,.1f}',
            *(f'{images * FLOAT * width / 1e9:,.0f}' for width in channels.values()),
        ]


def as_markdown(rows: Iterator[list[str]]) -> str:
    """Write a table as a page does."""
    head, *body = rows
    lines = [head, ['---'] * len(head), *body]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def replace(page: str, name: str, table: str) -> str:
    """Put a table between its marks in a page."""
    before, rest = page.split(f'<!-- {name} -->\n')
    return f'{before}<!-- {name} -->\n{table}\n<!-- end -->{rest.partition("<!-- end -->")[2]}'


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default, text in (
        ('peak', 989.0, 'TFLOP/s of a GPU in bf16; default: 989, an H100'),
        ('utilization', 0.35, 'share of it that a step reaches; default: 0.35'),
        ('links', 450.0, 'GB/s a GPU sends within a machine of 8; default: 450'),
        ('network', 50.0, 'GB/s a GPU sends to other machines; default: 50'),
        ('image-kb', 110.0, "kB of an image's file; default: 110"),
        ('core-rate', 400.0, 'images/s that a core loads; default: 400, measured'),
    ):
        parser.add_argument(f'--{name}', type=float, default=default, help=text)
    parser.add_argument('--page', type=Path, help='write the tables between their marks in it')
    return parser.parse_args(arguments)


def make_tables(assumed: Assumptions) -> dict[str, Callable[[], str]]:
    """Name the tables of the page; each is made when it is called."""
    trainings = {name: load(config) for name, config in RECIPES.items()}
    return dict(
        memory=lambda: as_markdown(memory_table(trainings)),
        step=lambda: as_markdown(step_table(trainings, assumed)),
        epochs=lambda: as_markdown(epochs_table(trainings, assumed)),
        storage=lambda: as_markdown(storage_table(trainings, assumed)),
        calibration=lambda: as_markdown(calibration_table()),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or write them into the page."""
    args = vars(parse_args(arguments))
    page = args.pop('page')
    text = None if page is None else page.read_text()
    for name, make in make_tables(Assumptions(**args)).items():
        if text is None:
            print(make() + '\n')
        else:
            text = replace(text, name, make())
    if text is not None:
        page.write_text(text)


if __name__ == '__main__':
    main()
