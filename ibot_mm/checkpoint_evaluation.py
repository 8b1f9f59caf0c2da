# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The evaluation of a checkpoint without a config, and how its numbers are shown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .evaluation_request import IMAGE_SIZE, PROTOCOLS


def evaluate(
    checkpoint: str | Path,
    data: str | Path | Sequence[str] = (),
    protocols: Sequence[str] = PROTOCOLS,
    out: str | Path = 'work_dirs/evaluation',
    config: str | Path | None = None,
    network: str = 'teacher',
    baselines: bool = False,
    image_size: int = IMAGE_SIZE,
    ks: Sequence[int] = (10, 20, 100, 200),
    epochs: int = 100,
    seed: int = 0,
    num_workers: int = 4,
    device: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure a network on frozen features, by protocols of classification and by other tasks.

    Features are extracted once and kept in ``out``; what was interrupted goes on from them.

    Args:
        checkpoint: Weights of any known format.
        data: Folder with ``train/CLASS`` and ``val/CLASS``, or a store of images for each, such as
            ``train.zip``; and ``NAME=FOLDER`` for a protocol or task with data of its own; by
            default those of the config's k-NN.
        protocols: Names of protocols and tasks.
        out: Folder of results and features.
        config: Pre-training config, where the checkpoint alone does not tell the network.
        network: 'teacher' or 'student'.
        baselines: Also measure the network untrained, and raw pixels.
        image_size: Side of the test view in pixels.
        ks: Numbers of neighbors.
        epochs: Of linear probing.
        seed: Of everything random.
        num_workers: Processes that load images.
        device: As torch names it; by default a GPU where there is one.
        options: Of single tasks, such as ``{'davis.topk': 10}``.

    Returns:
        What ``OUT/results.json`` holds.

    Raises:
        ValueError: If images or protocols do not serve.
        CheckpointError: If the weights match nothing.
    """
    import torch

    from .evaluation import Options
    from .evaluation_request import Request, split_data, split_options
    from .frozen_evaluation import evaluate_frozen

    root, folders = split_data([str(data)] if isinstance(data, str | Path) else data)
    request = Request(
        str(checkpoint),
        root,
        folders,
        network,
        None if config is None else str(config),
        tuple(protocols),
        str(out),
        baselines,
        image_size,
        num_workers=num_workers,
    )
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    tasks = split_options(options or {})
    results = evaluate_frozen(
        request, Options(ks=tuple(ks), epochs=epochs, seed=seed, device=device, tasks=tasks)
    )
    if results is None:
        raise RuntimeError('evaluate() runs in one process: several take tools/evaluate.py')
    return results


def show_results(results: dict[str, Any]) -> None:
    """Print the table, and save the figure beside ``results.json``.

    Args:
        results: Of :func:`evaluate`.
    """
    from rich.console import Console

    from .evaluation import make_table
    from .frozen_evaluation import FIGURE, RESULTS
    from .visualization import save_evaluation

    request = results['request']
    title = f'{results["architecture"]}, {results["checkpoint"]}'
    Console().print(make_table(results['summary'], title))
    published = {
        row['protocol']: row['published'] for row in results['summary'][request['network']]
    }
    out = Path(request['out'])
    try:
        save_evaluation(out / FIGURE, results['measurements'], published, results['summary'])
    except ValueError as error:
        print(error)
    print(f'Every number: {out / RESULTS}')
