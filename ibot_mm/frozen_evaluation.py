# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The frozen evaluation of a checkpoint: what ``tools/evaluate.py`` does."""

import copy
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .evaluation_request import Request, load_splits, tell_two_views
from .frozen_network import FrozenNetwork, load_frozen_network

if TYPE_CHECKING:
    from mmengine.dataset import BaseDataset

    from .evaluation import FeatureSettings, FrozenSplits, Measurement, Options
    from .network_input import NetworkInput

RESULTS, FIGURE = 'results.json', 'results.png'


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
    request.folder_of_splits()
    network = load_frozen_network(
        request.checkpoint, request.network, request.config, request.assume, request.prefix
    )
    if tasks:
        network.source.check_rgb(', '.join(tasks))
    # A checkpoint alone has no head: a classifier is fitted to images.
    with_images = protocols or (classified and request.config is None)
    datasets: Sequence[BaseDataset] = load_splits(request, network.source) if with_images else ()
    if classified:
        if network.classifier is None:
            datasets = datasets or load_splits(request, network.source)
            tell_two_views(request)
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
        splits = None
        if datasets:
            splits = _extract(evaluated, network.source, datasets, request, options)
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


def _extract(
    network: FrozenNetwork | None,
    source: 'NetworkInput',
    datasets: Any,
    request: Request,
    options: 'Options',
) -> 'FrozenSplits':
    from .evaluation import NEIGHBORS, FeatureExtractor, PixelExtractor, cover, extract_splits
    from .evaluation.extraction import Loading

    loading = Loading(request.batch_size, request.num_workers, options.device)
    folder = Path(request.out) / 'features'
    if network is None:
        if not source.is_rgb:
            loading = replace(loading, prepare=source.prepare)
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
