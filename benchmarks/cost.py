# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A model, not a measurement, of what pre-training costs: operations, GPU-hours, loading rates.

``python -m benchmarks.cost`` prints it for the pre-training configs. Operations, those of matrix
products, are counted while a config's step runs on tensors without values.
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
from mmengine.config import Config
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ibot_mm.functional.token_layout import TokenLayout
from ibot_mm.registry import MODELS

CONFIGS = Path(__file__).parents[1] / 'configs/pretrain'
IMAGES = dict(imagenet=1_281_167, imagenet22k=14_197_122)
PEAKS = {'V100 (fp16)': 125, 'A100 (bf16)': 312, 'H100 (bf16)': 989}  # TFLOP/s, dense, SXM
BATCH_SIZE = 32  # rounding of what masks and drop path leave is then small


def add_mean_branch(
    tokens: Tensor, branch: Callable, drop_path: nn.Module, layout: TokenLayout | None = None
) -> Tensor:
    """``add_branch`` for as many samples as drop path keeps on average: it cannot draw here."""
    share = 1 - getattr(drop_path, 'drop_prob', 0.0)
    if layout is None:
        kept = round(len(tokens) * share)
        output = branch(tokens[:kept])
    else:
        of_kept = TokenLayout(tuple((round(b * share), length) for b, length in layout.shapes))
        kept = sum(number * length for number, length in of_kept.shapes)
        output = branch(tokens[:kept], of_kept)
    return tokens.index_add(0, torch.arange(kept), output)


class Step:
    """A training step without values.

    Args:
        model: ``model`` of a pre-training config.
        global_crop_size: Side of both global crops in pixels.
        local_crop_size: Side of the local crops in pixels.
        local_crops: Their number.
        stride: Pixels of a mask's position.
        masked: Mean share of masked positions. Defaults to 0.15, as published.
    """

    def __init__(
        self,
        model: dict,
        global_crop_size: int,
        local_crop_size: int,
        local_crops: int,
        stride: int = 16,
        masked: float = 0.15,
    ) -> None:
        self.model_cfg, side = model, global_crop_size // stride
        self.without_values = FakeTensorMode(allow_non_fake_inputs=True)
        with self.without_values:
            self.inputs = dict(
                global_crops=torch.empty(BATCH_SIZE, 2, 3, global_crop_size, global_crop_size),
                masks=torch.empty(BATCH_SIZE, 2, side, side, dtype=torch.bool),
                masked_patches=torch.empty(round(BATCH_SIZE * 2 * side**2 * masked)).long(),
            )
            if local_crops:
                shape = BATCH_SIZE, local_crops, 3, local_crop_size, local_crop_size
                self.inputs['local_crops'] = torch.empty(shape)

    def ours(self) -> float:
        """Operations of an image: student forward and backward, teacher forward."""
        model = MODELS.build(self.model_cfg)

        def step() -> None:
            losses = model.loss(self.inputs)
            (losses['loss_cls'] + losses['loss_patch']).backward()

        return self._count(step)

    def published(self) -> float:
        """Count them in the published code: all tokens everywhere, and what drop path drops too."""
        backbone = dict(self.model_cfg['backbone'], drop_path_rate=0.0)
        model = MODELS.build(dict(self.model_cfg, backbone=backbone))
        crops = self.inputs['global_crops'].flatten(0, 1)

        def step() -> None:
            with torch.no_grad():
                model.teacher.neck(model.teacher.backbone(crops))
            used = list(model.neck(model.backbone(crops)))
            if 'local_crops' in self.inputs:
                local_crops = self.inputs['local_crops'].flatten(0, 1)
                used.append(model.neck(model.backbone(local_crops))[0])
            sum(logits.sum() for logits in used).backward()

        return self._count(step)

    def _count(self, step: Callable[[], None]) -> float:
        """Operations of an image; attention by its products, which is what torch can count."""
        counter = FlopCounterMode(display=False)
        with self.without_values, counter, sdpa_kernel(SDPBackend.MATH):
            with patch('ibot_mm.models.backbones.attention.add_branch', add_mean_branch):
                step()
        return counter.get_total_flops() / BATCH_SIZE


def step_of(cfg: Config) -> Step:
    """Build the step that a pre-training config describes."""
    transforms = cfg.train_dataloader.dataset.pipeline
    crops, masks = transforms.crops, transforms.masks
    return Step(
        cfg.model,
        global_crop_size=crops.global_crop_size,
        local_crop_size=crops.local_crop_size,
        local_crops=crops.num_local_crops,
        stride=masks.patch_size,
        masked=sum(mean for mean, _ in masks.ratio) / len(masks.ratio),
    )


def recipe(path: Path, utilization: float) -> dict[str, float]:
    """Operations (10**9 an image), and by GPU the hours of a run and the images it eats a second.

    Args:
        path: A pre-training config.
        utilization: Share of a GPU's peak that a step reaches.
    """
    cfg = Config.fromfile(path)
    step = step_of(cfg)
    operations = step.ours()
    images = IMAGES[Path(cfg.train_dataloader.dataset.data_root).name] * cfg.train_cfg.max_epochs
    result = dict(gflop=operations / 1e9, published_gflop=step.published() / 1e9)
    for gpu, peak in PEAKS.items():
        rate = utilization * peak * 1e12 / operations
        result[f'{gpu} images/s'] = rate
        result[f'{gpu} hours'] = images / rate / 3600
    return result


def recipes() -> list[Path]:
    """Configs of the published recipes."""
    others = re.compile('demo|continue|timm|cifar|small')
    return sorted(path for path in CONFIGS.glob('ibot_*.py') if not others.search(path.stem))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--utilization', type=float, default=0.35, help='share of the peak; default: 0.35'
    )
    args = parser.parse_args()
    table = Table('config', 'GFLOP an image', 'published', title='Model, not measurement')
    for gpu in PEAKS:
        table.add_column(f'{gpu}: GPU-hours')
        table.add_column('images/s')
    for path in recipes():
        figures = recipe(path, args.utilization)
        cells = [f'{figures["gflop"]:.0f}', f'{figures["published_gflop"]:.0f}']
        for gpu in PEAKS:
            cells += [f'{figures[f"{gpu} hours"]:,.0f}', f'{figures[f"{gpu} images/s"]:,.0f}']
        table.add_row(path.stem, *cells)
    Console(width=140).print(table)


if __name__ == '__main__':
    main()
