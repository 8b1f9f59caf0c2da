# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Sides of ``benchmarks.evaluation`` for tasks: label propagation of DAVIS, and retrieval.

Both start from features: the network is not what is compared.
"""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import measurement
from benchmarks.published_training import import_published
from benchmarks.workload import device
from ibot_mm.functional.label_propagation import LabelPropagation, enlarge_labels, labels_on_grid
from ibot_mm.functional.retrieval import RelevantImages, rank_database, score_rankings

GRID, PATCH, OBJECTS = (30, 52), 16, 3  # of a video of DAVIS at 480p
DATABASE, QUERIES = 6322, 70  # of revisited Paris
RELEVANT = dict(easy=100, hard=100, junk=150)  # of a query
KS = (1, 5, 10)
Sides = dict[str, Callable[[], Tensor]]


def davis(args: Namespace) -> Sides:
    """Carry the masks of a video's first frame to all others; the sides return the masks."""
    size = GRID[0] * PATCH, GRID[1] * PATCH
    still = torch.randn(*GRID, args.channels, device=device())
    drift = torch.randn(args.frames, 1, 1, args.channels, device=device()).cumsum(0)
    tokens = still + 0.1 * drift + 0.5 * torch.randn(args.frames, *still.shape, device=device())
    columns = np.arange(size[1]) * (OBJECTS + 1) // size[1]
    mask = np.broadcast_to(columns.astype(np.uint8), size).copy()
    labels = labels_on_grid(mask, GRID).to(device())

    def ours() -> Tensor:
        video = LabelPropagation(tokens[0], labels)
        masks = [enlarge_labels(video.step(frame), size, size) for frame in tokens[1:]]
        return torch.from_numpy(np.stack(masks))

    sides: Sides = {measurement.OURS: ours}
    if args.reference:
        module = import_published(args.reference, 'evaluation.eval_video_segmentation')
        sides[measurement.PUBLISHED] = _published_davis(module, tokens, labels, mask)
    return sides


def _published_davis(
    module: SimpleNamespace, tokens: Tensor, labels: Tensor, mask: np.ndarray
) -> Callable[[], Tensor]:
    """Run the published function on given tokens, without files and progress.

    The table of neighborhoods, which it makes anew for each video, is made once, before it is
    measured.
    """
    settings = Namespace(n_last_frames=7, size_mask_neighborhood=12, topk=5, patch_size=PATCH)
    module.args = settings
    near = module.restrict_neighborhood(*GRID).to(tokens.device)
    with_cls = F.pad(tokens.flatten(1, 2), (0, 0, 1, 0))  # it drops the first token
    network = SimpleNamespace(patch_embed=SimpleNamespace(patch_size=PATCH))
    frame = torch.zeros(3, *mask.shape, device=tokens.device)
    masks: list[np.ndarray] = []

    def run() -> Tensor:
        given = iter(with_cls)
        masks.clear()
        network.get_intermediate_layers = lambda *_, **__: [next(given)[None]]
        module.restrict_neighborhood = lambda *_: near
        module.read_frame = lambda _: (frame, *mask.shape)
        module.imwrite_indexed = lambda _, array, __: masks.append(array)
        module.tqdm = lambda frames: frames
        with TemporaryDirectory() as folder:
            settings.output_dir = folder
            names = [f'{number:05}.jpg' for number in range(len(tokens))]
            module.eval_video_tracking_davis(
                settings, network, names, str(Path(folder) / 'video'), labels[None], mask, None
            )
        return torch.from_numpy(np.stack(masks[1:]))

    return run


def retrieval(args: Namespace) -> Sides:
    """Rank and score as revisited Paris; the sides return mAP and mP@k of medium and hard."""
    number = round(DATABASE * args.share)
    database = torch.randn(number, args.channels, device=device())
    queries = torch.randn(QUERIES, args.channels, device=device())
    bounds = np.cumsum([0, *RELEVANT.values()])
    relevant = [
        RelevantImages(*(rows[a:b] for a, b in zip(bounds[:-1], bounds[1:])))
        for rows in (torch.randperm(number)[: bounds[-1]].numpy() for _ in range(QUERIES))
    ]

    def ours() -> Tensor:
        found = score_rankings(rank_database(database, queries), relevant, KS)
        return torch.tensor(
            [
                [found[name].mean_average_precision, *found[name].mean_precisions.tolist()]
                for name in ('medium', 'hard')
            ]
        )

    sides: Sides = {measurement.OURS: ours}
    if args.reference:
        if not hasattr(np, 'in1d'):  # removed from numpy 2.4
            np.in1d = np.isin
        compute_map = import_published(args.reference, 'utils').compute_map
        truth = [
            [
                dict(ok=positives, junk=ignored)
                for positives, ignored in (of.of_difficulty(name) for of in relevant)
            ]
            for name in ('medium', 'hard')
        ]

        def published() -> Tensor:
            bank, asked = (F.normalize(features, dim=1) for features in (database, queries))
            ranks = torch.argsort(-torch.mm(bank, asked.T), dim=0).cpu().numpy()
            found = [compute_map(ranks, of_difficulty, list(KS)) for of_difficulty in truth]
            return torch.tensor([[scores[0], *scores[2]] for scores in found])

        sides[measurement.PUBLISHED] = published
    return sides


TASKS = dict(davis=davis, retrieval=retrieval)


def agreement(given: dict[str, Tensor]) -> float:
    """Share of equal results of both sides: pixels of masks, or scores to six digits."""
    ours, published = given[measurement.OURS], given[measurement.PUBLISHED]
    return float(torch.isclose(ours.double(), published.double(), rtol=1e-6).double().mean())
