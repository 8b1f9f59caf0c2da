# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The frozen evaluation of a checkpoint: what ``tools/evaluate.py`` does."""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .frozen_network import FrozenNetwork, load_frozen_network

if TYPE_CHECKING:
    from mmengine.dataset import BaseDataset

    from .evaluation import FeatureSettings, FrozenSplits, Measurement, Options

PROTOCOLS = ('knn', 'linear', 'logistic')
RESULTS, FIGURE = 'results.json', 'results.png'


@dataclass(frozen=True)
class Request:
    """What to evaluate.

    Args:
        checkpoint: Of any known format; with a config, 'none' is the untrained network.
        data: Folder with ``train/CLASS`` and ``val/CLASS``. Defaults to None, the splits of the
            config's ``val_dataloader``.
        network: 'teacher' or 'student'. Defaults to 'teacher'.
        config: Pre-training config. Defaults to None.
        protocols: Names of them. Defaults to k-NN, linear probing, logistic regression.
        out: Folder of results and caches. Defaults to 'work_dirs/evaluation'.
        baselines: Whether to measure the same network untrained, and raw pixels, too.
            Defaults to False.
        image_size: Side of the test view in pixels. Defaults to 224.
        num_blocks: Of linear probing's feature. Defaults to None, the paper's choice.
        pooling: Of linear probing's feature. Defaults to None, the paper's choice.
        dtype: Of stored features. Defaults to 'float32'.
        batch_size: Images at once in each process. Defaults to 128.
        num_workers: Of each process. Defaults to 4.
        assume: What nothing in the checkpoint tells, such as ``dict(num_heads=6)``.
            Defaults to None.
        prefix: What the names of the wanted network have in front, in place of ``network``.
            Defaults to None.
    """

    checkpoint: str
    data: str | None = None
    network: str = 'teacher'
    config: str | None = None
    protocols: Sequence[str] = PROTOCOLS
    out: str = 'work_dirs/evaluation'
    baselines: bool = False
    image_size: int = 224
    num_blocks: int | None = None
    pooling: str | None = None
    dtype: str = 'float32'
    batch_size: int = 128
    num_workers: int = 4
    assume: dict[str, Any] | None = None
    prefix: str | None = None


def evaluate_frozen(request: Request, options: 'Options') -> dict[str, Any] | None:
    """Measure a checkpoint by protocols over frozen features.

    Everything that can be refused is, before the first image is read.

    Args:
        request: What.
        options: Settings of the protocols.

    Returns:
        What ``results.json`` holds, and None in all processes but the first.

    Raises:
        ValueError: See :func:`ibot_mm.evaluation.check_splits` and
            :func:`ibot_mm.evaluation.check_protocols`.
        CheckpointError: If the weights match nothing.
    """
    from mmengine.dist import is_main_process

    from .evaluation import check_protocols, run_protocols, summary_rows, versions, write_results

    if 'linear' not in request.protocols and (request.num_blocks or request.pooling):
        raise ValueError('num_blocks and pooling are those of linear, which is not asked for')
    datasets = load_splits(request)
    network = load_frozen_network(
        request.checkpoint, request.network, request.config, request.assume, request.prefix
    )
    with_head = network.neck is not None
    check_protocols(request.protocols, options, len(datasets[0]), with_head)
    columns: dict[str, tuple[FrozenNetwork | None, Sequence[str]]]
    columns = {request.network: (network, request.protocols)}
    if request.baselines:
        without_head = [name for name in request.protocols if name != 'clustering']
        untrained = _untrained(network, request, options.seed)
        columns |= {'untrained': (untrained, request.protocols), 'pixels': (None, without_head)}

    measured: dict[str, dict[str, list[Measurement]]] = {}
    for title, (evaluated, protocols) in columns.items():
        splits = _extract(evaluated, datasets, request, options)
        if is_main_process():
            measured[title] = run_protocols(protocols, splits, options)
    if not is_main_process():
        return None
    classes = datasets[0].metainfo.get('classes') or ()
    results = dict(
        checkpoint=str(request.checkpoint),
        architecture=network.name,
        request=asdict(request),
        options=asdict(options),
        linear_feature=_linear(network, request).as_dict(),
        images={name: len(split) for name, split in zip(('train', 'val'), datasets)},
        classes=len(classes),
        summary={
            title: [
                row
                for name, found in protocols.items()
                for row in summary_rows(name, found, network.name, len(classes))
            ]
            for title, protocols in measured.items()
        },
        measurements={
            title: {name: [asdict(m) for m in found] for name, found in protocols.items()}
            for title, protocols in measured.items()
        },
        versions=versions(),
    )
    write_results(Path(request.out) / RESULTS, results)
    return results


def load_splits(request: Request) -> tuple['BaseDataset', 'BaseDataset']:
    """Return the training and held-out split of a folder, or of the config's k-NN evaluation.

    Raises:
        ValueError: If there are none, or they do not serve; see
            :func:`ibot_mm.evaluation.check_splits`.
    """
    from mmengine.registry import DATASETS, init_default_scope

    from .compatibility import load_config
    from .evaluation import check_splits, evaluation_view, folder_splits

    init_default_scope('mmpretrain')
    if request.data is not None:
        return folder_splits(request.data, evaluation_view(request.image_size))
    if request.config is None:
        raise ValueError('no images: give --data ROOT, or --config with a k-NN evaluation')
    loader: Any = load_config(request.config).get('val_dataloader') or {}
    if loader.get('dataset', {}).get('type') != 'ibot_mm.KNNSplits':
        raise ValueError(
            f'{request.config} does not have the two splits of ibot_mm.KNNSplits in its '
            'val_dataloader: give --data ROOT'
        )
    splits: Any = DATASETS.build(loader.dataset)
    train, held_out = splits.datasets
    check_splits(train, held_out, ('bank', 'query'))
    return train, held_out


def _extract(
    network: FrozenNetwork | None, datasets: Any, request: Request, options: 'Options'
) -> 'FrozenSplits':
    from .evaluation import NEIGHBORS, FeatureExtractor, PixelExtractor, cover, extract_splits
    from .evaluation.extraction import Loading

    loading = Loading(request.batch_size, request.num_workers, options.device)
    folder = Path(request.out) / 'features'
    if network is None:
        return extract_splits(
            PixelExtractor(), datasets, folder, loading=loading, dtype=request.dtype, center=True
        )
    if network.prepare is not None:
        loading = replace(loading, prepare=network.prepare)
    if network.neck is not None:
        network.neck.to(options.device)
    linear = _linear(network, request)
    return extract_splits(
        FeatureExtractor(network.backbone, cover(NEIGHBORS, linear)),
        datasets,
        folder,
        linear,
        network.project(),
        loading,
        request.dtype,
    )


def _linear(network: FrozenNetwork, request: Request) -> 'FeatureSettings':
    from .evaluation import linear_settings

    given = dict(num_blocks=request.num_blocks, pooling=request.pooling)
    changes: Any = {name: value for name, value in given.items() if value is not None}
    return replace(linear_settings(network.backbone), **changes)


def _untrained(network: FrozenNetwork, request: Request, seed: int) -> FrozenNetwork:
    """Build the same network as a training starts it."""
    import torch
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    level, state = logger.level, torch.get_rng_state()
    logger.setLevel('WARNING')  # one line for each parameter otherwise
    torch.manual_seed(seed)
    if request.config is not None:
        untrained = load_frozen_network('none', request.network, request.config)
    else:
        parts = [copy.deepcopy(part) for part in (network.backbone, network.neck)]
        for part in parts:
            _start_anew(part)
        untrained = replace(network, backbone=parts[0], neck=parts[1])
    logger.setLevel(level)
    torch.set_rng_state(state)
    return untrained


def _start_anew(module: Any) -> None:
    if module is None:
        return
    for part in module.modules():
        part.is_init = False
        if hasattr(part, 'reset_parameters'):
            part.reset_parameters()
    module.init_cfg = None
    module.init_weights()
