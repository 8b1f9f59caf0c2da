# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""[CLS] of many images on a plane: t-SNE, UMAP or the first two principal components."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ibot_mm.functional.principal_components import principal_axes

from .network import PictureNetwork, figure_title
from .style import COLORS, SMALL, new_figure

METHODS = ('tsne', 'umap', 'pca')
MARKERS = 'osD^v'
FEWEST = 4


def embed(features: Tensor, method: str = 'tsne', seed: int = 0) -> np.ndarray:
    """Bring features to the plane.

    Args:
        features: Shape (B, D), of length 1.
        method: 'tsne' of scikit-learn, perplexity 30 or what fewer images allow; 'umap' of
            umap-learn; 'pca'. Defaults to 'tsne'.
        seed: Of t-SNE and UMAP. Defaults to 0.

    Returns:
        Shape (B, 2).

    Raises:
        ValueError: If the method is not known, or there are fewer than 4 images.
        ImportError: If its library is not installed.
    """
    check_method(method)
    if len(features) < FEWEST:
        raise ValueError(f'a plane of images needs at least {FEWEST} of them, got {len(features)}')
    array = features.double().numpy()
    if method == 'pca':
        mean, axes, _ = principal_axes(features, 2)
        return ((features.double() - mean) @ axes).numpy()
    if method == 'umap':
        few = len(array) < 15  # than which the spectral start needs more
        reducer = _umap().UMAP(
            n_neighbors=min(15, len(array) - 1),
            metric='cosine',
            init='random' if few else 'spectral',
            random_state=seed,
            n_jobs=1,
        )
        return np.asarray(reducer.fit_transform(array))
    perplexity = min(30.0, (len(array) - 1) / 3)
    return _tsne()(perplexity=perplexity, init='pca', random_state=seed).fit_transform(array)


def check_method(method: str) -> None:
    """Refuse methods that are not known or whose library is not installed.

    Raises:
        ValueError: If the method is not one of ``METHODS``.
        ImportError: If its library is not installed.
    """
    if method not in METHODS:
        raise ValueError(f'method must be one of {METHODS}, got {method!r}')
    if method == 'umap':
        _umap()
    elif method == 'tsne':
        _tsne()


def _umap() -> Any:
    try:
        import umap
    except ImportError:
        raise ImportError('UMAP needs umap-learn: pip install umap-learn, or use tsne') from None
    return umap


def _tsne() -> Any:
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise ImportError('t-SNE needs scikit-learn: pip install scikit-learn') from None
    return TSNE


def draw_embedding(
    network: PictureNetwork,
    points: np.ndarray,
    classes: Sequence[str],
    method: str = 'tsne',
    layer: int | None = None,
) -> Figure:
    """Draw images as points, by class.

    Classes differ in color and shape. Where there are more than color and shape can tell apart,
    those with fewest images are gray.

    Args:
        network: For the title.
        points: From :func:`embed`, shape (B, 2).
        classes: Class of each image; '' where there are none.
        method: Which it is. Defaults to 'tsne'.
        layer: Counted from 1. Defaults to None, the last.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If the numbers of points and classes differ.
    """
    if len(points) != len(classes):
        raise ValueError(f'got {len(points)} points and {len(classes)} classes')
    names = dict(tsne='t-SNE', umap='UMAP', pca='PCA')
    what = f'{names[method]} of [CLS], {len(points)} images'
    spread = np.ptp(points, axis=0)
    height = 6 * float(np.clip(spread[1] / max(spread[0], 1e-12), 0.5, 1.0))
    figure = new_figure(7.2, height, figure_title(network, what, layer))
    axis = figure.subplots()
    counts = Counter(classes)
    palette = COLORS[:6] + COLORS[7:]  # yellow is too light for points
    most = [name for name, _ in counts.most_common(len(palette) * len(MARKERS))]
    shown, others = sorted(most), set(counts) - set(most)
    of_class = np.asarray(classes)
    if others:
        rest = points[np.isin(of_class, sorted(others))]
        label = f'{len(others)} other classes'
        axis.scatter(rest[:, 0], rest[:, 1], s=12, color='0.8', label=label)
    for number, name in enumerate(shown):
        of_name = points[of_class == name]
        axis.scatter(
            of_name[:, 0],
            of_name[:, 1],
            s=22,
            color=palette[number % len(palette)],
            marker=MARKERS[number % len(MARKERS)],
            alpha=0.8,
            linewidths=0,
            label=name,
        )
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_aspect('equal', adjustable='datalim')
    axis.spines[:].set_color('0.8')
    if len(counts) > 1:
        axis.legend(
            loc='center left', bbox_to_anchor=(1, 0.5), frameon=False, fontsize=SMALL,
            ncols=-(-(len(shown) + bool(others)) // 20),
        )  # fmt: skip
    return figure
