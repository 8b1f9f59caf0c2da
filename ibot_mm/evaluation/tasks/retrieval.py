# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Image retrieval on revisited Oxford and Paris (arXiv 1803.11285), as published for iBOT.

Layout, of one data set or both::

    ROOT/roxford5k/gnd_roxford5k.pkl
    ROOT/roxford5k/jpg/NAME.jpg
    ROOT/rparis6k/gnd_rparis6k.pkl
    ROOT/rparis6k/jpg/NAME.jpg

The ground truth comes from http://cmp.felk.cvut.cz/revisitop, the images from the pages of
Oxford5k and Paris6k that it names.
"""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ibot_mm.functional.pooling import SCALES, multi_scale_features
from ibot_mm.functional.retrieval import RelevantImages, rank_database, score_rankings

from ..features import FeatureExtractor
from ..protocols.measurement import Measurement, Options
from ..splits import DataError
from ..views import to_tensor
from .image_features import image_features, open_image
from .network import TaskNetwork
from .settings import settings_of

NAMES = ('roxford5k', 'rparis6k')
KINDS = RelevantImages._fields
LAYOUT = """
It needs, of one data set or both:
    ROOT/{roxford5k,rparis6k}/gnd_{roxford5k,rparis6k}.pkl    cmp.felk.cvut.cz/revisitop
    ROOT/{roxford5k,rparis6k}/jpg/NAME.jpg                    images of Oxford5k and Paris6k"""


@dataclass(frozen=True)
class RetrievalSettings:
    """Settings of retrieval; the defaults are the published ones.

    Args:
        image_size: Pixels of the longer side at most; smaller images are not enlarged.
        scales: Of the images, whose [CLS] are added.
        ks: Numbers of images of the precisions.
    """

    image_size: int = 512
    scales: tuple[float, ...] = SCALES
    ks: tuple[int, ...] = (1, 5, 10)


@dataclass(frozen=True)
class GroundTruth:
    """What a data set's file says.

    Args:
        database: Paths of the images.
        queries: Paths of the query images, which are used whole.
        relevant: Images of each query.
    """

    database: list[Path]
    queries: list[Path]
    relevant: list[RelevantImages]


def retrieval(network: TaskNetwork, root: Path, options: Options) -> list[Measurement]:
    """Rank the database for each query by [CLS] of three scales.

    Returns:
        For each data set and difficulty ``map`` and ``mp@1``, ``mp@5``, ``mp@10``, in percent.

    Raises:
        DataError: See :func:`check_retrieval`.
    """
    settings = settings_of(options, 'retrieval', RetrievalSettings)
    found = []
    for name in _present(root):
        truth = read_ground_truth(root, name)
        database, queries = (
            extract(network, paths, options, settings, f'{name}_{part}')
            for paths, part in ((truth.database, 'database'), (truth.queries, 'queries'))
        )
        rankings = rank_database(database, queries.to(options.device))
        sizes = dict(images=len(truth.database), queries=len(truth.queries))
        for difficulty, scores in score_rankings(rankings, truth.relevant, settings.ks).items():
            metrics = dict(map=100 * scores.mean_average_precision)
            for k, precision in zip(settings.ks, scores.mean_precisions.tolist()):
                metrics[f'mp@{k}'] = 100 * precision
            setting = dict(dataset=name, difficulty=difficulty, **sizes)
            found.append(Measurement(setting, metrics))
    return found


def check_retrieval(root: Path, options: Options) -> None:
    """Refuse a folder without a data set, without queries, or whose images are not all there.

    Raises:
        DataError: If it is.
        ValueError: If an option is out of range.
    """
    settings = settings_of(options, 'retrieval', RetrievalSettings)
    if settings.image_size < 1 or not settings.scales or min(settings.scales) <= 0:
        raise ValueError(
            'retrieval needs image_size of at least 1 and scales above 0, got '
            f'{settings.image_size} and {settings.scales}'
        )
    if not settings.ks or min(settings.ks) < 1:
        raise ValueError(f'retrieval.ks must be at least 1, got {settings.ks}')
    if not (present := _present(root)):
        raise DataError(f'{root} has neither {" nor ".join(NAMES)}.{LAYOUT}')
    for name in present:
        read_ground_truth(root, name)


def _present(root: Path) -> list[str]:
    return [name for name in NAMES if (root / name).is_dir()]


def extract(
    network: TaskNetwork,
    paths: Sequence[Path],
    options: Options,
    settings: RetrievalSettings,
    name: str,
) -> Tensor:
    """Compute [CLS] of several scales (N, D), of length 1."""

    def load(path: Path) -> Tensor:
        image = open_image(path)
        image.thumbnail((settings.image_size,) * 2, Image.Resampling.LANCZOS)
        return to_tensor(image)

    extractor = FeatureExtractor(network.backbone)
    view = dict(longer_side=settings.image_size, scales=settings.scales)
    return image_features(
        network,
        paths,
        load,
        lambda images: multi_scale_features(extractor, images, settings.scales),
        options,
        name,
        view,
    )


def read_ground_truth(root: Path, name: str) -> GroundTruth:
    """Read and check the file of a data set.

    Raises:
        DataError: If it is missing or of another content, has no queries or no positives, or names
            images that are not there.
    """
    path = root / name / f'gnd_{name}.pkl'
    if not path.is_file():
        raise DataError(f'there is no file {path}.{LAYOUT}')
    try:
        with path.open('rb') as file:
            content = _PlainUnpickler(file).load()
        images, queries = list(content['imlist']), list(content['qimlist'])
        relevant = [
            RelevantImages(
                *(np.array([int(row) for row in of[kind]], dtype=np.int64) for kind in KINDS)
            )
            for of in content['gnd']
        ]
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f'{path} is not a ground truth with imlist, qimlist and gnd of easy, hard and junk '
            f'images ({error!r}): download it again.{LAYOUT}'
        ) from error
    if not queries or not images or len(queries) != len(relevant):
        raise DataError(
            f'{path} names {len(queries)} queries with {len(relevant)} lists of images, and '
            f'{len(images)} images of the database: all are needed, and as many lists as queries'
        )
    if not any(len(of.easy) + len(of.hard) for of in relevant):
        raise DataError(f'{path}: no query has an image to be found')
    outside = [i for i, of in enumerate(relevant) if any(_outside(r, len(images)) for r in of)]
    if outside:
        raise DataError(
            f'{path}: query {queries[outside[0]]} names images beyond the {len(images)} of the '
            'database: the lists belong to another data set'
        )
    folder = root / name / 'jpg'
    database, query_paths = (
        [folder / f'{image}.jpg' for image in names] for names in (images, queries)
    )
    if missing := [path for path in (*database, *query_paths) if not path.is_file()]:
        raise DataError(
            f'{len(missing)} of {len(images) + len(queries)} images that {path.name} names are '
            f'missing, first {missing[0]}.{LAYOUT}'
        )
    return GroundTruth(database, query_paths, relevant)


def _outside(rows: np.ndarray, number: int) -> bool:
    return bool(len(rows)) and (int(rows.min()) < 0 or int(rows.max()) >= number)


class _PlainUnpickler(pickle.Unpickler):
    """Reads arrays and Python's own containers only: a pickle could run anything."""

    ALLOWED = ('_reconstruct', 'ndarray', 'dtype', 'scalar', '_frombuffer')

    def find_class(self, module: str, name: str) -> Any:
        of_numpy = module.split('.')[0] == 'numpy' and name in self.ALLOWED
        if of_numpy or (module, name) == ('_codecs', 'encode'):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f'{module}.{name} is not allowed in a ground truth')
