# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from .application import advice, read_options

Words = Annotated[list[str], Parameter(consume_multiple=True)]
Numbers = Annotated[list[int], Parameter(consume_multiple=True)]
Network = Literal['teacher', 'student']


def embed(
    checkpoint: str,
    images: str,
    /,
    *,
    out: Path,
    kind: Literal['cls', 'patch_mean', 'cls_patch_mean', 'patches'] = 'cls',
    network: Network = 'teacher',
    num_blocks: int = 1,
    image_size: int = 224,
    dtype: Literal['float32', 'float16'] = 'float32',
    batch_size: int = 128,
    num_workers: int = 4,
    config: Path | None = None,
) -> None:
    """Write the features of all images of a folder or a store.

    Example: `ibot-mm embed runs/first/epoch_316.pth my/images --out features.npy`

    Args:
        checkpoint: Weights of any known format.
        images: Folder, nested as deep as it may be, or store.
        out: .npy (names in a .txt beside it), .safetensors or .parquet.
        kind: What of the last block.
        network: Where the checkpoint has both.
        num_blocks: Last blocks of cls, side by side.
        image_size: Side in pixels.
        dtype: Of the file.
        batch_size: Images at once.
        num_workers: Processes that load images.
        config: Pre-training config, where the checkpoint alone does not tell the network.
    """
    import torch

    import ibot_mm

    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    with advice():
        path, names = ibot_mm.embed(
            checkpoint, images, out, kind, network, num_blocks, image_size, dtype, batch_size,
            num_workers, device, config,
        )  # fmt: skip
    print(f'{path}: features of {len(names)} images')


def evaluate(
    checkpoint: str,
    /,
    *options: str,
    data: Words,
    protocols: Words = ['knn', 'linear', 'logistic'],
    out: Path = Path('work_dirs/evaluation'),
    config: Path | None = None,
    network: Network = 'teacher',
    baselines: bool = False,
    image_size: int = 224,
    ks: Numbers = [10, 20, 100, 200],
    epochs: int = 100,
    seed: int = 0,
    num_workers: int = 4,
) -> None:
    """Measure a network on frozen features; tools/evaluate.py has every option.

    Example: `ibot-mm evaluate runs/first/epoch_316.pth --data my/classes --protocols knn linear`

    Args:
        checkpoint: Weights of any known format.
        options: TASK.OPTION=VALUE, of single tasks, such as davis.topk=10
        data: Folder with train/CLASS and val/CLASS, or a store for each, such as train.zip;
            NAME=FOLDER for a task with its own data.
        protocols: Names, see `ibot-mm list protocols`.
        out: Folder of results and features.
        config: Pre-training config, where the checkpoint alone does not tell the network.
        network: Where the checkpoint has both.
        baselines: Also the network untrained, and raw pixels.
        image_size: Side of the test view in pixels.
        ks: Numbers of neighbors.
        epochs: Of linear probing.
        seed: Of everything random.
        num_workers: Processes that load images.
    """
    import ibot_mm
    from ibot_mm.checkpoint_evaluation import show_results

    with advice():
        results = ibot_mm.evaluate(
            checkpoint, data, protocols, out, config, network, baselines, image_size, ks, epochs,
            seed, num_workers, options=read_options(options),
        )  # fmt: skip
    show_results(results)


def diagnose(run: Path, /, *, out: Path | None = None) -> None:
    """Say whether a training is healthy, by its logs, and what to change.

    Example: `ibot-mm diagnose runs/first`

    Args:
        run: Folder of a pre-training, finished or not.
        out: PNG of its curves. Default: RUN/health.png
    """
    from ibot_mm.diagnosis import print_diagnosis

    with advice():
        print_diagnosis(run, out)
