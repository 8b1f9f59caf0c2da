# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The demo: pre-train a small ViT, show what it has learned, and let it help where labels are few.

Runs the commands that a user would run, and shows each. What is finished is not done again.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ibot_mm.functional.knn import weighted_knn
from ibot_mm.registry import DATASETS

CONFIG = 'configs/pretrain/ibot_vit_demo.py'
DATA = Path('data/demo')
WORK_DIR = Path('work_dirs/ibot_vit_demo')
MARGIN = 15.0  # points of top-1 by which the trained teacher must lead
# Downstream configs, and what is measured: title -> metric.
TRANSFER = {
    'configs/det/mask_rcnn_vit_windowed_demo.py': {
        'Mask R-CNN, box AP': 'coco/bbox_mAP',
        'Mask R-CNN, mask AP': 'coco/segm_mAP',
    },
    'configs/seg/upernet_vit_windowed_demo.py': {'UperNet, mIoU': 'mIoU'},
}
console = Console()


def run(*command: object) -> None:
    """Show a command of this repository and run it."""
    words = [str(word) for word in command]
    console.print(f'\n[bold]$ python {shlex.join(words)}[/bold]', highlight=False)
    status = subprocess.call([sys.executable, *words])
    if status:
        sys.exit(f'demo stopped: `python {shlex.join(words)}` ended with status {status}')


def pretrain() -> Path:
    """Make the data and train; return the last checkpoint."""
    if not DATA.exists():
        run('tools/dataset_converters/make_demo_data.py', '--out', DATA)
    cfg = Config.fromfile(CONFIG)
    last = WORK_DIR / f'epoch_{cfg.train_cfg.max_epochs}.pth'
    kept = WORK_DIR / 'demo_config.py'
    is_same = kept.exists() and cfg.pretty_text == kept.read_text()
    if last.exists() and is_same:
        console.print(f'{last} is there from an earlier run; remove {WORK_DIR} to train again')
        return last
    WORK_DIR.mkdir(parents=True, exist_ok=True)
    kept.write_text(cfg.pretty_text)
    option = '--resume' if is_same else '--start-again'  # of an earlier run that was stopped
    run('tools/train.py', CONFIG, '--work-dir', WORK_DIR, option)
    return last


def test(checkpoint: Path | str, out: Path) -> float:
    """k-NN accuracy of a checkpoint by tools/test.py."""
    run('tools/test.py', CONFIG, checkpoint, '--work-dir', WORK_DIR, '--out', out)
    return best(json.loads(out.read_text()))


def best(metrics: dict[str, float]) -> float:
    """Top-1 of the best k, the same choice for every row of the table."""
    return max(value for name, value in metrics.items() if 'top1' in name)


def test_pixels() -> float:
    """k-NN accuracy of raw pixels on the same splits, through the same validation pipeline."""
    cfg = Config.fromfile(CONFIG)
    init_default_scope('mmpretrain')
    splits = DATASETS.build(cfg.val_dataloader.dataset)
    features: dict[str, list[np.ndarray]] = dict(bank=[], query=[])
    labels: dict[str, list[int]] = dict(bank=[], query=[])
    for index in track(range(len(splits)), description='raw pixels'):
        sample = splits[index]
        split = sample['data_samples'].knn_split
        features[split].append(sample['inputs'].float().flatten().numpy())
        labels[split].append(int(sample['data_samples'].gt_label))
    mean = np.mean(features['bank'], axis=0)  # cosine similarity needs centered pixels
    bank, query = (torch.from_numpy(np.stack(features[s]) - mean) for s in ('bank', 'query'))
    ks = tuple(cfg.val_evaluator.ks)
    predictions = weighted_knn(bank, torch.tensor(labels['bank']), query, ks=ks)
    truth = torch.tensor(labels['query'])
    return max((predictions[k][:, 0] == truth).float().mean().item() * 100 for k in ks)


def show_pretraining() -> None:
    """Pre-train, and compare the teacher's features with an untrained network's and with pixels."""
    start = time.time()
    checkpoint = pretrain()
    minutes = (time.time() - start) / 60
    pixels = test_pixels()
    untrained = test('none', WORK_DIR / 'knn_untrained.json')
    trained = test(checkpoint, WORK_DIR / 'knn_trained.json')
    attention, curves = WORK_DIR / 'attention.png', WORK_DIR / 'curves.png'
    run('tools/analysis_tools/visualize_attention.py', CONFIG, checkpoint, '--out', attention)
    run('tools/analysis_tools/plot_curves.py', WORK_DIR, '--out', curves)

    table = Table('features', 'k-NN top-1 (%)', title='held-out digits, best k of each row')
    table.add_row('raw pixels', f'{pixels:.1f}')
    table.add_row('the same network, untrained', f'{untrained:.1f}')
    table.add_row('teacher, pre-trained', f'[bold]{trained:.1f}[/bold]')
    console.print()
    console.print(table)
    console.print(f'Data and training took {minutes:.1f} minutes.')
    console.print(f'Attention maps: {attention}\nCurves: {curves}')
    lead = trained - max(pixels, untrained)
    if lead < MARGIN:
        sys.exit(f'demo failed: the teacher leads by {lead:.1f} points, at least {MARGIN} expected')


def compare(config: str, checkpoint: Path) -> dict[str, dict[str, float]]:
    """Train a downstream config from the teacher and from random weights, and draw predictions."""
    work_dir = checkpoint.parent / Path(config).stem
    metrics = work_dir / 'metrics.json'
    if not metrics.exists() or metrics.stat().st_mtime < checkpoint.stat().st_mtime:
        run(
            *('tools/analysis_tools/compare_initialization.py', config),
            *('--checkpoint', checkpoint, '--work-dir', work_dir),
        )
    columns = [
        f'{name}={work_dir / name / (work_dir / name / "last_checkpoint").read_text().strip()}'
        for name in ('pretrained', 'scratch')
    ]
    picture = work_dir / 'predictions.png'
    run('tools/analysis_tools/visualize_predictions.py', config, *columns, '--out', picture)
    console.print(f'Predictions: {picture}')
    return json.loads(metrics.read_text())


def show_transfer() -> None:
    """Fine-tune detector and segmentor on few labeled images, pre-trained beside scratch."""
    start = time.time()
    checkpoint = pretrain()
    table = Table('', 'pre-trained', 'scratch', title='fine-tuned on few labeled images')
    behind = []
    for config, names in TRANSFER.items():
        metrics = compare(config, checkpoint)
        for title, name in names.items():
            pretrained, scratch = (metrics[side][name] for side in ('pretrained', 'scratch'))
            table.add_row(title, f'[bold]{pretrained:.3g}[/bold]', f'{scratch:.3g}')
            if pretrained <= scratch:
                behind.append(title)
    console.print()
    console.print(table)
    console.print(f'This stage took {(time.time() - start) / 60:.1f} minutes.')
    if behind:
        sys.exit(f'demo failed: the pre-trained weights are not ahead in {", ".join(behind)}')


def main() -> None:
    stages = dict(pretrain=show_pretraining, transfer=show_transfer)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('stage', choices=stages)
    stages[parser.parse_args().stage]()


if __name__ == '__main__':
    main()
