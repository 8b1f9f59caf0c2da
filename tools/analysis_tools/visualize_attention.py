# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Draw where the [CLS] token of a trained ViT looks, on given images or on validation images."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import nn

from ibot_mm.checkpoint import add_network_arguments, load_model, network_options
from ibot_mm.engine.checkpointing import force_safe_loading
from ibot_mm.visualization import cls_attention, save_attention


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the model and its validation pipeline')
    parser.add_argument('checkpoint', help='file, folder, address or package::model')
    parser.add_argument('images', nargs='*', help='image files; default: validation images')
    add_network_arguments(parser)
    parser.add_argument(
        '--num-images', type=int, default=6, help='validation images, evenly spaced; default: 6'
    )
    parser.add_argument('--per-head', action='store_true', help='add one map for each head')
    parser.add_argument('--out', type=Path, default=Path('attention.png'), help='PNG to write')
    parser.add_argument('--device', default='cpu', help='default: cpu')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='config overrides')
    return parser.parse_args(argv)


def load_samples(cfg: Config, images: Sequence[str], num_images: int) -> list[dict]:
    """Pass image files, or evenly spaced validation images, through the validation pipeline."""
    dataset = cfg.val_dataloader.dataset
    dataset = dataset.get('query', dataset)  # of KNNSplits
    if images:
        pipeline = Compose(dataset.pipeline)
        return [pipeline(dict(img_path=image)) for image in images]
    dataset = DATASETS.build(dataset)
    chosen = np.linspace(0, len(dataset) - 1, min(num_images, len(dataset))).round().astype(int)
    return [dataset[int(index)] for index in chosen]


def select_backbone(model: Any, network: str) -> nn.Module:
    """Return the backbone of the teacher or the student; models without a teacher have one."""
    if network == 'teacher' and hasattr(model, 'teacher'):
        return model.teacher.backbone
    return model.backbone


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    force_safe_loading()
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    samples = load_samples(cfg, args.images, args.num_images)
    model = MODELS.build(cfg.model)
    load_model(model, args.checkpoint, **network_options(args), whole=False)
    model.to(args.device).eval()

    pictures = torch.stack([sample['inputs'] for sample in samples])  # (B, 3, H, W) uint8 BGR
    inputs = model.data_preprocessor(pseudo_collate(samples), False)['inputs']
    attention = cls_attention(select_backbone(model, args.network), inputs)
    print(
        save_attention(
            args.out, pictures.flip(1).permute(0, 2, 3, 1).numpy(), attention, args.per_head
        )
    )


if __name__ == '__main__':
    main()
