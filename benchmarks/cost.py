# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A model, not a measurement, of what pre-training costs: operations, GPU-hours, loading rates.

``python -m benchmarks.cost`` prints it for every pre-training config of a ViT.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from ibot_mm.models import MaskedVisionTransformer

CONFIGS = Path(__file__).parents[1] / 'configs/pretrain'
IMAGES = dict(imagenet=1_281_167, imagenet22k=14_197_122)
PEAKS = {'V100 (fp16)': 125, 'A100 (bf16)': 312, 'H100 (bf16)': 989}  # TFLOP/s, dense, SXM


@dataclass
class Step:
    """What one image of a training step consists of.

    Args:
        channels: D of the ViT.
        layers: Of the ViT.
        patch: Side of a patch in pixels.
        global_size: Side of both global crops in pixels.
        local_size: Side of the local crops in pixels.
        local_crops: Their number.
        masked: Mean share of masked patches.
        drop_path: Probability in the last layer; it rises linearly from 0.
        prototypes: K.
        hidden: Channels of the neck's MLP.
        bottleneck: Channels of its last layer.
    """

    channels: int
    layers: int
    patch: int = 16
    global_size: int = 224
    local_size: int = 96
    local_crops: int = 10
    masked: float = 0.15
    drop_path: float = 0.1
    prototypes: int = 8192
    hidden: int = 2048
    bottleneck: int = 256

    def crop(self, size: int, wanted: float | None = None) -> float:
        """Operations of one crop's forward pass; of the last layer only ``wanted`` outputs."""
        patches = (size // self.patch) ** 2
        tokens = 1 + patches
        dense = 24 * self.channels**2  # of one token in one layer, its attention weights apart
        attention = 4 * tokens * self.channels
        total = self.layers * tokens * (dense + attention)
        if wanted is not None:  # output projection and feed-forward network are 9 / 12 of `dense`
            total -= (tokens - wanted) * dense * 9 / 12
        return total + patches * 2 * 3 * self.patch**2 * self.channels

    def neck(self, tokens: float) -> float:
        """Operations of the MLP's forward pass."""
        widths = self.channels, self.hidden, self.hidden, self.bottleneck
        return tokens * sum(2 * a * b for a, b in zip(widths, widths[1:]))

    def ours(self) -> float:
        """Operations of an image: student forward and backward, teacher forward."""
        patches = (self.global_size // self.patch) ** 2
        chosen = 1 + self.masked * patches  # of a global crop
        student = 2 * self.crop(self.global_size, chosen)
        student += self.local_crops * self.crop(self.local_size, 1)
        student *= 1 - self.drop_path / 2
        logits = 2 * self.bottleneck * self.prototypes
        rows = 2 * chosen + self.local_crops
        student += self.neck(rows) + rows * logits
        teacher = 2 * self.crop(self.global_size) + self.neck(2 * (1 + patches))
        return 3 * student + teacher + 2 * chosen * logits

    def published(self) -> float:
        """The same in the published code: all tokens everywhere, what is dropped too."""
        tokens = 2 * (1 + (self.global_size // self.patch) ** 2)
        local_tokens = self.local_crops * (1 + (self.local_size // self.patch) ** 2)
        logits = 2 * self.bottleneck * self.prototypes
        teacher = 2 * self.crop(self.global_size) + self.neck(tokens) + tokens * logits
        local = self.local_crops * (self.crop(self.local_size) + logits) + self.neck(local_tokens)
        unused = (local_tokens - self.local_crops) * logits  # forward only
        return 4 * teacher + 3 * local + unused


def step_of(cfg: Config) -> Step:
    """The step that a pre-training config describes."""
    arch = MaskedVisionTransformer.arch_zoo[cfg.model.backbone.arch]
    transforms = {t.type.split('.')[-1]: t for t in cfg.train_dataloader.dataset.pipeline}
    crops, ratios = transforms['MultiCrop'], transforms['DrawMasks'].ratio
    return Step(
        channels=arch['embed_dims'],
        layers=arch['num_layers'],
        patch=cfg.model.backbone.patch_size,
        global_size=crops.global_size,
        local_size=crops.local_size,
        local_crops=crops.local_number,
        masked=sum(mean for mean, _ in ratios) / len(ratios),
        drop_path=cfg.model.backbone.drop_path_rate,
        prototypes=cfg.model.neck.num_prototypes,
        hidden=cfg.model.neck.hidden_channels,
        bottleneck=cfg.model.neck.bottleneck_channels,
    )


def recipe(path: Path, utilisation: float) -> dict[str, float]:
    """Operations (10**9 an image), and by GPU the hours of a run and the images it eats a second.

    Args:
        path: A pre-training config of a ViT.
        utilisation: Share of a GPU's peak that a step reaches.
    """
    cfg = Config.fromfile(path)
    step = step_of(cfg)
    images = IMAGES[Path(cfg.train_dataloader.dataset.data_root).name] * cfg.train_cfg.max_epochs
    result = dict(gflop=step.ours() / 1e9, published_gflop=step.published() / 1e9)
    for gpu, peak in PEAKS.items():
        rate = utilisation * peak * 1e12 / step.ours()
        result[f'{gpu} images/s'] = rate
        result[f'{gpu} hours'] = images / rate / 3600
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--utilisation', type=float, default=0.35, help='share of the peak; default: 0.35'
    )
    args = parser.parse_args()
    table = Table('config', 'GFLOP an image', 'published', title='Model, not measurement')
    for gpu in PEAKS:
        table.add_column(f'{gpu}: GPU-hours')
        table.add_column('images/s')
    for path in sorted(CONFIGS.glob('ibot_vit*.py')):
        figures = recipe(path, args.utilisation)
        cells = [f'{figures["gflop"]:.0f}', f'{figures["published_gflop"]:.0f}']
        for gpu in PEAKS:
            cells += [f'{figures[f"{gpu} hours"]:,.0f}', f'{figures[f"{gpu} images/s"]:,.0f}']
        table.add_row(path.stem, *cells)
    Console(width=140).print(table)


if __name__ == '__main__':
    main()
