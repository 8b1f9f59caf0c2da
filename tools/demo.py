# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The demo: pre-train a small ViT, show what it has learned, and let it help where labels are few.

Runs the commands that a user would run, and shows each. What is finished is not done again. At the
end stand a report, one page with all of it, and a table.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.table import Table

CONFIG = 'configs/pretrain/ibot_vit_demo.py'
DATA = Path('data/demo')
VAL = DATA / 'imagenet/val'
WORK_DIR = Path('work_dirs/ibot_vit_demo')
MARGIN = 15.0  # points of k-NN top-1 by which the trained teacher must lead
PROTOCOLS = ('knn', 'linear', 'logistic', 'clustering', 'kmeans', 'few_labels')
# Configs that fine-tune, and what is measured: title -> metric, and its unit in percent.
CLASSIFICATION = {
    'configs/cls/finetune_vit_demo.py': {
        'fine-tuned on 300 labels, top-1': ('accuracy/top1', 1),
    }
}
TRANSFER = {
    'configs/det/mask_rcnn_vit_windowed_demo.py': {
        'Mask R-CNN, box AP': ('coco/bbox_mAP', 100),
        'Mask R-CNN, mask AP': ('coco/segm_mAP', 100),
    },
    'configs/seg/linear_vit_demo.py': {'linear segmentation, mIoU': ('mIoU', 1)},
}
COLUMNS = ('teacher', 'untrained', 'pixels')  # of what is fine-tuned, untrained is from scratch
Rows = dict[str, dict[str, float]]  # title -> column -> percent
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


def is_newer(file: Path, checkpoint: Path) -> bool:
    """Whether a result is there, of this checkpoint."""
    return file.exists() and file.stat().st_mtime >= checkpoint.stat().st_mtime


def evaluate(checkpoint: Path) -> Rows:
    """All protocols on frozen features, of the teacher, the untrained network and raw pixels."""
    out = WORK_DIR / 'evaluation'
    if not is_newer(out / 'results.json', checkpoint):
        run(
            *('tools/evaluate.py', checkpoint, '--config', CONFIG, '--protocols', *PROTOCOLS),
            *('--ks', *Config.fromfile(CONFIG).val_evaluator.ks, '--baselines', '--out', out),
        )
    rows: Rows = {}
    for column, found in json.loads((out / 'results.json').read_text())['summary'].items():
        for row in found:
            rows.setdefault(f'{row["protocol"]}, {row["metric"]}', {})[column] = row['value']
    return rows


def fine_tune(config: str, checkpoint: Path, titles: dict[str, tuple[str, int]]) -> Rows:
    """Train a config from the teacher and from random weights."""
    work_dir = checkpoint.parent / Path(config).stem
    if not is_newer(work_dir / 'metrics.json', checkpoint):
        run(
            *('tools/analysis_tools/compare_initialization.py', config),
            *('--checkpoint', checkpoint, '--work-dir', work_dir),
        )
    metrics = json.loads((work_dir / 'metrics.json').read_text())
    sides = dict(teacher=metrics['pretrained'], untrained=metrics['scratch'])
    return {
        title: {column: unit * side[name] for column, side in sides.items()}
        for title, (name, unit) in titles.items()
    }


def draw_predictions(config: str, checkpoint: Path) -> None:
    """Draw what a detector or segmentor predicts, trained from the teacher and from scratch."""
    work_dir = checkpoint.parent / Path(config).stem
    columns = [
        f'{name}={work_dir / name / (work_dir / name / "last_checkpoint").read_text().strip()}'
        for name in ('pretrained', 'scratch')
    ]
    picture = work_dir / 'predictions.png'
    run('tools/analysis_tools/visualize_predictions.py', config, *columns, '--out', picture)


def write_report(start: float) -> None:
    """Write the page about the training and all that came of it, and name it."""
    report = WORK_DIR / 'report.html'
    run('-m', 'ibot_mm', 'report', WORK_DIR, '--out', report)
    console.print(f'\n[bold]Report, to be opened in a browser: {report}[/bold]', highlight=False)
    console.print(f'This stage took {(time.time() - start) / 60:.1f} minutes.')


def show(rows: Rows) -> None:
    """Print the table; stop if the teacher is not ahead in every row, in k-NN by a margin."""
    table = Table('%', *COLUMNS, title='the teacher, the same network untrained, raw pixels')
    for title, values in rows.items():
        cells = [f'{values[column]:.1f}' if column in values else '' for column in COLUMNS]
        table.add_row(title, f'[bold]{cells[0]}[/bold]', *cells[1:])
    console.print()
    console.print(table)
    console.print('Of what is fine-tuned, the untrained network is training from scratch.')
    leads = {
        title: values['teacher'] - max(v for column, v in values.items() if column != 'teacher')
        for title, values in rows.items()
    }
    if behind := [title for title, lead in leads.items() if lead <= 0]:
        sys.exit(f'demo failed: the pre-trained weights are not ahead in {"; ".join(behind)}')
    if (lead := leads['knn, top1']) < MARGIN:
        sys.exit(f'demo failed: the teacher leads by {lead:.1f} points, at least {MARGIN} expected')


def measure_classification(checkpoint: Path) -> Rows:
    """Rows of the table that need no detector and no segmentor."""
    rows = evaluate(checkpoint)
    for config, titles in CLASSIFICATION.items():
        rows |= fine_tune(config, checkpoint, titles)
    return rows


def show_pretraining() -> None:
    """Pre-train, and compare the teacher with the same network untrained and with pixels."""
    start = time.time()
    checkpoint = pretrain()
    rows = measure_classification(checkpoint)
    attention, curves = WORK_DIR / 'attention.png', WORK_DIR / 'curves.png'
    run(
        *('tools/analysis_tools/visualize_network.py', 'attention', checkpoint, VAL),
        *('--image-size', '64', '--out', attention),
    )
    run('tools/analysis_tools/plot_curves.py', WORK_DIR, '--out', curves)
    write_report(start)
    console.print(f'Attention maps: {attention}\nCurves: {curves}')
    show(rows)


def show_transfer() -> None:
    """Fine-tune detector and segmentor on few labeled images, pre-trained beside scratch."""
    start = time.time()
    checkpoint = pretrain()
    rows = measure_classification(checkpoint)
    for config, titles in TRANSFER.items():
        rows |= fine_tune(config, checkpoint, titles)
        draw_predictions(config, checkpoint)
    write_report(start)
    show(rows)


def main() -> None:
    # Trainings and their loaders share the cores: threads that wait must not spin.
    os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
    stages = dict(pretrain=show_pretraining, transfer=show_transfer)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('stage', choices=stages)
    stages[parser.parse_args().stage]()


if __name__ == '__main__':
    main()
