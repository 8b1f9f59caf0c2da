# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Pictures of a report: what the trained network sees in images of its data, and found ones."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from mmengine.config import Config

from ibot_mm.frozen_network import FrozenNetwork, load_frozen_network
from ibot_mm.picture_files import PictureFiles, find_pictures, sample_views
from ibot_mm.visualization import draw_attention, draw_correspondence, draw_pca, read_attention
from ibot_mm.visualization.network import figure_title

NUM_IMAGES, NUM_PAIRS = 6, 4
MOST_FOUND = 24
DPI = 100
OWN = ('health.png', 'curves.png')  # of which the page has its own

Figures = dict[str, bytes]  # title -> PNG


def png_of(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    stream = BytesIO()
    figure.savefig(stream, format='png', dpi=DPI)
    return stream.getvalue()


def draw_pictures(
    checkpoint: Path, config: Path, cfg: Config, images: str | Path | None = None
) -> tuple[Figures, list[str]]:
    """Draw attention, principal components and correspondence of a pre-trained network.

    Args:
        checkpoint: Of a pre-training.
        config: File of its config.
        cfg: The same, read.
        images: Folder of images, of which six are shown, evenly spaced. Defaults to None, the
            held-out images of the config's k-NN, or else the training's.

    Returns:
        Pictures, and why others are not there.
    """
    folder = Path(images) if images is not None else images_of(cfg)
    size = 2 * _size_of(cfg)
    try:
        if folder is None or not folder.is_dir():
            raise FileNotFoundError(f'the folder {folder} is not there (--images names another)')
        shown = find_pictures([folder], size, NUM_IMAGES)
        whole = find_pictures([folder], None, NUM_IMAGES)
        network = load_frozen_network(checkpoint, config=config)
        network.source.check_rgb('figures')
    except (OSError, ValueError) as error:
        return {}, [f'attention, PCA, correspondence: {error}']
    figures: Figures = {}
    reasons = []
    drawn: dict[str, Callable[[], Figure]] = {
        'Where [CLS] looks, and the patches that hold 60% of its attention': lambda: _attention(
            network, shown
        ),
        'Principal components of the patches as colors': lambda: draw_pca(
            network, shown, foreground=False
        ),
        'Patches found again in another view': lambda: draw_correspondence(
            network,
            (sample_views(picture, size, i) for i, picture in enumerate(whole[:NUM_PAIRS])),
        ),
    }
    for title, draw in drawn.items():
        try:
            figures[title] = png_of(draw())
        except ValueError as error:  # such as attention of a Swin, which does not have [CLS]
            reasons.append(f'{title}: {error}')
    return figures, reasons


def find_figures(folder: Path) -> tuple[Figures, list[str]]:
    """Read the PNG files below a folder.

    Args:
        folder: A work directory.

    Returns:
        At most 24 pictures by their paths without ending, and how many were left out.
    """
    paths = [path for path in sorted(folder.rglob('*.png')) if path.name not in OWN]
    paths.sort(key=lambda path: len(path.parts))  # those near the top count most
    figures = {
        path.relative_to(folder).with_suffix('').as_posix(): path.read_bytes()
        for path in paths[:MOST_FOUND]
    }
    left_out = len(paths) - len(figures)
    return figures, [f'{left_out} more PNG files below {folder}'] if left_out else []


def images_of(cfg: Config) -> Path | None:
    """Return the folder of held-out images of a pre-training config, or else of its training."""
    held_out: Any = (cfg.get('val_dataloader') or {}).get('dataset') or {}
    for dataset in (held_out.get('query'), cfg.train_dataloader.dataset):
        prefix = (dataset or {}).get('data_prefix', '')
        if dataset and dataset.get('data_root') and isinstance(prefix, str):
            return Path(dataset.data_root, prefix)
    return None


def _attention(network: FrozenNetwork, pictures: PictureFiles) -> Figure:
    found = list(read_attention(network, pictures))
    return draw_attention(
        [picture.pixels for picture, _ in found],
        [maps for _, maps in found],
        mass=0.6,
        title=figure_title(network, '[CLS] attention'),
    )


def _size_of(cfg: Config) -> int:
    size = cfg.model.backbone.get('img_size', 224)
    return int(size if isinstance(size, int) else min(size))
