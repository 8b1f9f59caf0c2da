# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Draw the predictions of one or more checkpoints on test images, beside the ground truth."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.config import DictAction
from mmengine.registry import DATASETS, MODELS, VISUALIZERS, init_default_scope

from ibot_mm.checkpoint import load_model
from ibot_mm.compatibility import load_config
from ibot_mm.engine.checkpointing import force_safe_loading
from ibot_mm.visualization import draw_samples, predict_samples, save_table_of_pictures


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of a detector or segmentor')
    parser.add_argument('checkpoints', nargs='+', help='one column for each; [TITLE=]FILE')
    parser.add_argument(
        '--num-images', type=int, default=4, help='test images, evenly spaced; default: 4'
    )
    parser.add_argument('--out', type=Path, default=Path('predictions.png'), help='PNG to write')
    parser.add_argument('--device', default='cpu', help='default: cpu')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='config overrides')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    force_safe_loading()
    cfg = load_config(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    number = min(args.num_images, len(dataset))
    chosen = np.linspace(0, len(dataset) - 1, number).round().astype(int)
    samples = [dataset[int(index)] for index in chosen]
    # Without back ends nothing is written but the picture asked for.
    visualizer = VISUALIZERS.build(cfg.visualizer | dict(vis_backends=None))
    visualizer.dataset_meta = dataset.metainfo

    columns = {}
    for checkpoint in args.checkpoints:
        title, _, file = checkpoint.rpartition('=')
        model = MODELS.build(cfg.model).to(args.device)
        load_model(model, file)
        results = predict_samples(model, samples)
        if not columns:
            columns['ground truth'] = draw_samples(visualizer, results, draw_pred=False)
        columns[title or Path(file).stem] = draw_samples(visualizer, results, draw_gt=False)
    print(save_table_of_pictures(args.out, columns))


if __name__ == '__main__':
    main()
