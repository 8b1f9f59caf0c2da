# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Features of a folder or a store of images, from a checkpoint and no config."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from .frozen_network import FrozenNetwork

KINDS = ('cls', 'patch_mean', 'cls_patch_mean', 'patches')


def extract(
    checkpoint: str | Path,
    folder: str | Path,
    out: str | Path | None = None,
    kind: str = 'cls',
    network: str = 'teacher',
    num_blocks: int = 1,
    image_size: int = 224,
    dtype: str = 'float32',
    batch_size: int = 128,
    num_workers: int = 4,
    device: str = 'cpu',
    config: str | Path | None = None,
    assume: dict[str, Any] | None = None,
    prefix: str | None = None,
) -> tuple['np.ndarray | Path', list[str]]:
    """Extract features of all images of a folder, in the order of their names, or of a store.

    Args:
        checkpoint: Of any known format, see :class:`ibot_mm.Pretrained`.
        folder: Nested as deep as it may be; no labels are needed. Or a store of images, see
            :func:`ibot_mm.datasets.stores.describe_images`.
        out: ``.npy``, ``.safetensors`` or ``.parquet``, see
            :func:`ibot_mm.evaluation.feature_files.open_writer`; written as the features come.
            Defaults to None, features are returned.
        kind: 'cls' (N, C), of the last ``num_blocks`` blocks side by side; 'patch_mean' (N, D);
            'cls_patch_mean', both; 'patches' (N, H/p * W/p, D), tokens of the last block.
            Defaults to 'cls'.
        network: 'teacher' or 'student', where there are both. Defaults to 'teacher'.
        num_blocks: Defaults to 1.
        image_size: Images are resized to 8/7 of it on the shorter side, bicubic, and their center
            is taken. Defaults to 224.
        dtype: 'float32' or 'float16'. Defaults to 'float32'.
        batch_size: Defaults to 128.
        num_workers: Processes that load images. Defaults to 4.
        device: Defaults to 'cpu'.
        config: Pre-training config of the checkpoint, where that alone does not tell the network.
            Defaults to None.
        assume: What nothing in the checkpoint tells, such as ``dict(num_heads=6)``.
            Defaults to None.
        prefix: What the names of the wanted network have in front, in place of ``network``.
            Defaults to None.

    Returns:
        The features, or ``out``, and the names of the images: paths below ``folder``, or names
        in the store.

    Raises:
        ValueError: If ``kind``, ``dtype`` or the suffix of ``out`` is not known, there are no
            images, or nothing tells how images of the network's channels are read.
        FileNotFoundError: If there is no such folder or store.
        ImportError: If ``out`` is a parquet, and pyarrow is not installed.
        CheckpointError: If the weights match nothing.
        FloatingPointError: If features are not finite; the message names the image.
    """
    import numpy as np
    from mmengine.registry import DATASETS, init_default_scope

    from .datasets.find_images import EXTENSIONS
    from .datasets.stores import describe_images
    from .evaluation import evaluation_view
    from .evaluation.cache import DTYPES
    from .evaluation.feature_files import check_feature_file, open_writer
    from .frozen_network import load_frozen_network

    for value, known, name in ((kind, KINDS, 'kind'), (dtype, DTYPES, 'dtype')):
        if value not in known:
            raise ValueError(f'{name} must be one of {known}, got {value!r}')
    if out is not None:
        check_feature_file(out)
    init_default_scope('mmpretrain')
    loaded = load_frozen_network(checkpoint, network, config, assume, prefix)
    source = loaded.source
    source.check()
    images = describe_images(str(folder), source.extensions or EXTENSIONS)
    images |= dict(extensions=source.extensions or EXTENSIONS, with_label=False)
    view = evaluation_view(image_size, load=source.load)
    dataset: Any = DATASETS.build(dict(images, pipeline=view))
    paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    if hasattr(dataset, 'sample_names'):
        names = dataset.sample_names()
    else:
        names = [Path(path).relative_to(folder).as_posix() for path in paths]
    parts = _features(loaded, dataset, kind, num_blocks, batch_size, num_workers, device)
    writer, kept = None, []
    for number, part in enumerate(parts):
        rounded = part.astype(dtype)
        finite = np.isfinite(rounded).reshape(len(part), -1).all(axis=1)
        if not finite.all():
            path = paths[number * batch_size + int(np.flatnonzero(~finite)[0])]
            raise FloatingPointError(
                f'the features of {path} are not finite as {dtype}: the network has diverged, or '
                'the type is too small'
            )
        if out is None:
            kept.append(rounded)
        else:
            writer = writer or open_writer(out, names, part.shape[1:], dtype)
            writer.write(rounded)
    if writer is not None and out is not None:
        writer.close()
        return Path(out), names
    return np.concatenate(kept), names


def _features(
    network: 'FrozenNetwork',
    dataset: Any,
    kind: str,
    num_blocks: int,
    batch_size: int,
    num_workers: int,
    device: str,
) -> Iterator['np.ndarray']:
    from .evaluation import FeatureExtractor, FeatureSettings, Loading
    from .evaluation.extraction import batches, track

    pooling = 'cls' if kind == 'patches' else kind
    extractor = FeatureExtractor(network.backbone, FeatureSettings(num_blocks, pooling)).to(device)
    loading = Loading(batch_size, num_workers, device)
    if network.prepare is not None:
        loading = replace(loading, prepare=network.prepare)
    rows = range(len(dataset))
    for _, batch in track(batches(dataset, rows, loading), len(dataset), 'features'):
        images = loading.prepare(batch['inputs'].to(device))
        if kind == 'patches':
            features = extractor.tokens(images)[-1][:, 1:]
        else:
            features = extractor(images)
        yield features.float().cpu().numpy()
