# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The frozen evaluation of a checkpoint: what ``tools/evaluate.py`` does."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
        data: Folder with ``train/CLASS`` and ``val/CLASS``, or of a task's data. Defaults to None,
            the splits of the config's ``val_dataloader``.
        folders: Protocol or task -> folder, in place of ``data``. Defaults to none.
        network: 'teacher' or 'student'. Defaults to 'teacher'.
        config: Pre-training config. Defaults to None.
        protocols: Names of them; 'robustness' is all tasks of it that data is given for.
            Defaults to k-NN, linear probing, logistic regression.
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
        attention: Checkpoint of the network whose attention says which patches are salient, for
            occlusion; ``assume`` is for it too. Defaults to None, the network itself.
    """

    checkpoint: str
    data: str | None = None
    folders: Mapping[str, str] = field(default_factory=dict)
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
    attention: str | None = None

    def folder_of(self, name: str) -> str | None:
        """Folder of a protocol's or task's data, if there is one."""
        return self.folders.get(name, self.data)


def split_data(entries: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """Split ``ROOT NAME=FOLDER ...`` into the folder of all and those of single protocols.

    Args:
        entries: At most one of them a plain folder.

    Returns:
        The plain folder or None, and name -> folder.

    Raises:
        ValueError: If there are two plain folders, a name is given twice, or is unknown.
    """
    from .evaluation import check_names

    root, folders = None, dict[str, str]()
    for entry in entries:
        name, separator, folder = entry.partition('=')
        if not (separator and name.isidentifier()):
            if root is not None:
                raise ValueError(f'--data takes one plain folder, got {root} and {entry}')
            root = entry
            continue
        check_names([name])
        if name in folders:
            raise ValueError(f'--data has two folders for {name}: {folders[name]} and {folder}')
        folders[name] = folder
    return root, folders


def evaluate_frozen(request: Request, options: 'Options') -> dict[str, Any] | None:
    """Measure a checkpoint by protocols over frozen features, and by tasks.

    Everything that can be refused is, before the first image is read.

    Args:
        request: What.
        options: Settings of the protocols.

    Returns:
        What ``results.json`` holds, and None in all processes but the first.

    Raises:
        ValueError: See :func:`ibot_mm.evaluation.check_splits`,
            :func:`ibot_mm.evaluation.check_protocols` and
            :func:`ibot_mm.evaluation.check_tasks`.
        CheckpointError: If the weights match nothing.
    """
    from mmengine.dist import is_main_process

    from .evaluation import (
        CLASS_CHECKS,
        PROTOCOLS,
        TASKS,
        check_classes,
        check_names,
        check_protocols,
        check_tasks,
        name_group,
        run_protocols,
        run_tasks,
        summary_rows,
        versions,
        write_results,
    )

    names = name_group(request.protocols, request.folders, request.data)
    request = replace(request, protocols=names)
    check_names(request.protocols)
    protocols = [name for name in request.protocols if name in PROTOCOLS]
    tasks = [name for name in request.protocols if name in TASKS]
    classified = [name for name in tasks if name in CLASS_CHECKS]
    folders = {name: request.folder_of(name) for name in tasks}
    if not ({'linear', *classified} & {*request.protocols}) and (
        request.num_blocks or request.pooling
    ):
        raise ValueError('num_blocks and pooling are those of linear, which is not asked for')
    if request.attention is not None and 'occlusion' not in tasks:
        raise ValueError('attention is that of occlusion, which is not asked for')
    options = replace(
        options,
        work_dir=request.out,
        images_per_batch=request.batch_size,
        num_workers=request.num_workers,
    )
    check_tasks(tasks, folders, options)
    # A checkpoint alone has no head: a classifier is fitted to images.
    with_images = protocols or (classified and request.config is None)
    datasets: Sequence[BaseDataset] = load_splits(request) if with_images else ()
    network = load_frozen_network(
        request.checkpoint, request.network, request.config, request.assume, request.prefix
    )
    if classified:
        if network.classifier is None:
            datasets = datasets or load_splits(request)
        elif request.baselines:
            raise ValueError(
                'baselines begin from the network before its training, which a checkpoint with a '
                'head of classes does not have: leave them out, or give the pre-trained network'
            )
        known = network.classifier.classes if network.classifier else _classes(datasets)
        check_classes(classified, folders, options, known, request.image_size)
    if request.attention is not None:
        network = replace(
            network, salience=load_frozen_network(request.attention, assume=request.assume)
        )
    if protocols:
        check_protocols(protocols, options, len(datasets[0]), network.neck is not None)
    columns: dict[str, FrozenNetwork | None] = {request.network: network}
    if request.baselines:
        columns['untrained'] = _untrained(network, request, options.seed)
        if protocols:
            columns['pixels'] = None

    measured: dict[str, dict[str, list[Measurement]]] = {}
    for title, evaluated in columns.items():
        found: dict[str, list[Measurement]] = {}
        splits = _extract(evaluated, datasets, request, options) if datasets else None
        if splits is not None and is_main_process():
            with_head = [n for n in protocols if evaluated is not None or n != 'clustering']
            found |= run_protocols(with_head, splits, options)
        if evaluated is not None:
            if classified:
                evaluated = _with_classifier(evaluated, splits, datasets, request, options)
            own = request.out if title == request.network else str(Path(request.out) / title)
            found |= run_tasks(tasks, evaluated, folders, replace(options, work_dir=own))
        measured[title] = found
    if not is_main_process():
        return None
    classes = _classes(datasets) if protocols else ()
    results = dict(
        checkpoint=str(request.checkpoint),
        architecture=network.name,
        request=asdict(request),
        options=asdict(options),
        linear_feature=_linear(network, request).as_dict() if datasets else None,
        images={name: len(split) for name, split in zip(('train', 'val'), datasets)},
        classes=len(classes),
        summary={
            title: [
                row
                for name, measurements in of_network.items()
                for row in summary_rows(name, measurements, network.name, len(classes))
            ]
            for title, of_network in measured.items()
        },
        measurements={
            title: {name: [asdict(m) for m in found] for name, found in of_network.items()}
            for title, of_network in measured.items()
        },
        versions=versions(),
    )
    Path(request.out).mkdir(parents=True, exist_ok=True)
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
    from .evaluation import PROTOCOLS, check_splits, evaluation_view, folder_splits

    init_default_scope('mmpretrain')
    names = [name for name in request.protocols if name in PROTOCOLS] or ['linear']
    folders = {request.folder_of(name) for name in names}
    if len(folders) > 1:
        raise ValueError(
            f'{", ".join(names)} share one pass over one folder, got {", ".join(map(str, folders))}'
        )
    if (folder := next(iter(folders), request.data)) is not None:
        return folder_splits(folder, evaluation_view(request.image_size))
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


def _with_classifier(
    network: FrozenNetwork,
    splits: Any,
    datasets: Any,
    request: Request,
    options: 'Options',
) -> FrozenNetwork:
    """Take the checkpoint's own classifier, or fit one to splits."""
    from .evaluation import linear_classifier

    network.backbone.to(options.device)
    if network.salience is not None:
        network.salience.backbone.to(options.device)
    if network.classifier is not None:
        own = replace(network.classifier, image_size=request.image_size)
        return replace(network, classifier=own)
    fitted = linear_classifier(
        network.backbone, splits, _classes(datasets), request.image_size, options
    )
    return replace(network, classifier=fitted)


def _classes(datasets: Any) -> Sequence[str]:
    return datasets[0].metainfo.get('classes') or ()


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
