# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What an evaluation is asked for, and the images it reads."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.dataset import BaseDataset

    from .network_input import NetworkInput

PROTOCOLS = ('knn', 'linear', 'logistic')
IMAGE_SIZE = 224  # pixels


@dataclass(frozen=True)
class Request:
    """What to evaluate.

    Args:
        checkpoint: Of any known format; with a config, 'none' is the untrained network.
        data: Folder with ``train/CLASS`` and ``val/CLASS``, or with a store of labeled images for
            each, such as ``train.zip``, ``train-*.tar`` or a folder ``train`` of shards; or folder
            of a task's data. Defaults to None, the splits of the config's ``val_dataloader``.
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
    image_size: int = IMAGE_SIZE
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

    def folder_of_splits(self) -> str | None:
        """Folder that all protocols read, if there is one.

        Raises:
            ValueError: If they have several.
        """
        from .evaluation import PROTOCOLS

        names = [name for name in self.protocols if name in PROTOCOLS] or ['linear']
        folders = {self.folder_of(name) for name in names}
        if len(folders) > 1:
            raise ValueError(
                f'{", ".join(names)} share one pass over one folder, got '
                f'{", ".join(map(str, folders))}'
            )
        return folders.pop()


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


def split_options(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Split ``TASK.OPTION`` -> value by task."""
    tasks: dict[str, dict[str, Any]] = {}
    for key, value in given.items():
        task, _, option = key.partition('.')
        tasks.setdefault(task, {})[option] = value
    return tasks


def load_splits(
    request: Request, source: 'NetworkInput | None' = None
) -> tuple['BaseDataset', 'BaseDataset']:
    """Return the training and held-out split of a folder, or of the config's k-NN evaluation.

    Args:
        request: What is evaluated.
        source: What the network's images are. Defaults to None, RGB.

    Raises:
        ValueError: If there are none, or they do not serve; see
            :func:`ibot_mm.evaluation.check_splits`.
    """
    from mmengine.registry import DATASETS, init_default_scope

    from .compatibility import load_config
    from .evaluation import check_splits, evaluation_view
    from .network_input import RGB

    init_default_scope('mmpretrain')
    if (folder := request.folder_of_splits()) is not None:
        _tell_other_view(request)
        source = source or RGB
        source.check()
        return _splits_of(folder, source, evaluation_view(request.image_size, load=source.load))
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


def _splits_of(
    folder: str, source: 'NetworkInput', view: list[dict[str, Any]]
) -> tuple['BaseDataset', 'BaseDataset']:
    """Return the splits of a folder: class folders, or stores."""
    from .datasets.find_images import EXTENSIONS
    from .datasets.stores import describe_split
    from .evaluation import DataError, folder_splits, labeled_splits

    extensions = source.extensions or EXTENSIONS
    found = {name: describe_split(folder, name, extensions) for name in ('train', 'val')}
    described = {n: dict(c, extensions=extensions) for n, c in found.items() if c is not None}
    of_files = all(config['type'] == 'ibot_mm.ImageFolder' for config in described.values())
    missing = [name for name in found if name not in described]
    if of_files and (missing or not source.extensions):
        return folder_splits(folder, view)  # which says what is missing
    if missing:
        raise DataError(
            f'{folder} has no {missing[0]}: neither a folder nor a store, such as '
            f'{missing[0]}.zip or {missing[0]}-000000.tar'
        )
    return labeled_splits(described, view)


def _tell_other_view(request: Request) -> None:
    """Say where images are viewed at another size than the config's network was trained at."""
    from mmengine.logging import print_log

    from .compatibility import load_config

    if request.config is None or request.image_size != IMAGE_SIZE:
        return
    trained: Any = load_config(request.config).model.get('backbone', {}).get('img_size', IMAGE_SIZE)
    if trained != IMAGE_SIZE:
        print_log(
            f'images are viewed at {IMAGE_SIZE} pixels, and the network of {request.config} was '
            f'trained at {trained}: give --image-size {trained}, or leave --data out for the view '
            "of the config's own k-NN",
            logger='current',
            level=logging.WARNING,
        )


def tell_two_views(request: Request) -> None:
    """Say where a classifier is fitted to other views of images than the tasks show it.

    Args:
        request: One whose tasks need a classifier, which its checkpoint does not have.
    """
    from mmengine.logging import print_log

    if request.folder_of_splits() is not None:
        return
    print_log(
        f'the classifier is fitted to images as {request.config} views them for k-NN; the tasks '
        'show it the published view, the center of images resized to 8/7 of --image-size: give '
        '--data ROOT for the same view in both',
        logger='current',
        level=logging.WARNING,
    )
