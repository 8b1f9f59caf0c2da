# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The images of a folder whose [CLS] is nearest to that of others."""

from collections.abc import Iterable, Sequence
from pathlib import PurePath

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from ibot_mm.functional.knn import nearest_neighbors

from .network import PictureNetwork, figure_title, read_tokens
from .picture import Picture
from .style import picture_grid, show_picture


def read_cls(
    network: PictureNetwork, pictures: Iterable[Picture], layer: int | None = None
) -> Tensor:
    """Compute [CLS] of pictures, of length 1.

    Args:
        network: See :class:`~ibot_mm.visualization.network.PictureNetwork`.
        pictures: Of any sizes; one batch is held at a time.
        layer: Counted from 1. Defaults to None, the last.

    Returns:
        Shape (B, D).

    Raises:
        ValueError: If there are no pictures.
    """
    tokens = [described.cls for described in read_tokens(network, pictures, layer)]
    if not tokens:
        raise ValueError('no pictures to describe')
    return F.normalize(torch.stack(tokens), dim=1)


def draw_neighbors(
    network: PictureNetwork,
    queries: Sequence[Picture],
    gallery: Sequence[Picture],
    number: int = 8,
    layer: int | None = None,
) -> Figure:
    """Draw pictures beside their nearest neighbors by the cosine of [CLS].

    Args:
        network: See :class:`~ibot_mm.visualization.network.PictureNetwork`.
        queries: Of any sizes.
        gallery: Where neighbors are looked for; pixels equal to the query's are left out.
        number: Neighbors shown. Defaults to 8.
        layer: Counted from 1. Defaults to None, the last.

    Returns:
        A matplotlib figure, one row a query: the cosine, and the folder if there is one, above
        each neighbor.

    Raises:
        ValueError: If there are no queries or no other images, or ``number`` is less than 1.
    """
    if number < 1:
        raise ValueError(f'the number of neighbors must be at least 1, got {number}')
    features = read_cls(network, queries, layer)
    similarity, indices = nearest_neighbors(
        read_cls(network, gallery, layer), features, min(number + 1, len(gallery))
    )
    rows = []
    for query, values, places in zip(queries, similarity.tolist(), indices.tolist()):
        found = [(gallery[place], value) for place, value in zip(places, values)]
        others = [(picture, value) for picture, value in found if not _same(picture, query)]
        rows.append((query, others[:number]))
    if not any(others for _, others in rows):
        raise ValueError('no neighbors: the folder has nothing but the images themselves')
    aspects = [
        max(picture.size[0] / picture.size[1] for picture in [query, *(p for p, _ in others)])
        for query, others in rows
    ]
    columns = 1 + max(len(others) for _, others in rows)
    title = figure_title(network, 'nearest neighbors by the cosine of [CLS]', layer)
    figure, axes = picture_grid(aspects, columns, title, cell=1.4, captions=len(rows))
    for row, (query, others) in zip(axes, rows):
        show_picture(row[0], query.pixels, _folder(query) or 'image')
        for axis, (picture, value) in zip(row[1:], others):
            show_picture(axis, picture.pixels, f'{value:.2f} {_folder(picture)}'.strip())
    return figure


def _same(one: Picture, other: Picture) -> bool:
    return one.size == other.size and bool((one.pixels == other.pixels).all())


def _folder(picture: Picture) -> str:
    name = PurePath(picture.name).parent.name
    return name if len(name) <= 16 else f'{name[:15]}…'
