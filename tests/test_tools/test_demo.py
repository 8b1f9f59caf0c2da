# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The demo's own config and tools on a handful of its images (`make demo` is the whole)."""

import importlib.util
import json
from pathlib import Path

import pytest
from PIL import Image

TOP = Path(__file__).parents[2]
CONFIG = 'configs/pretrain/ibot_vit_demo.py'


@pytest.mark.long
def test_demo_at_small_size(call, tmp_path):
    data, work_dir = tmp_path / 'data', tmp_path / 'work_dir'
    call(
        'tools/dataset_converters/make_demo_data.py',
        *('--out', data, '--train', 160, '--val', 40),
    )
    splits = ('train_dataloader.dataset', 'val_dataloader.dataset.bank',
              'val_dataloader.dataset.query', 'test_dataloader.dataset.bank',
              'test_dataloader.dataset.query')  # fmt: skip
    roots = ['--cfg-options', *(f'{split}.data_root={data}/imagenet' for split in splits)]
    call(
        *('tools/train.py', CONFIG, '--work-dir', work_dir, *roots),
        *('train_cfg.max_epochs=8', 'train_cfg.val_interval=4', 'param_scheduler.0.warmup=2'),
        *('default_hooks.temperature.warmup_epochs=4', 'default_hooks.logger.interval=1'),
    )
    checkpoint = work_dir / 'epoch_8.pth'
    out = tmp_path / 'knn.json'
    call('tools/test.py', CONFIG, checkpoint, '--out', out, *roots)
    assert json.loads(out.read_text()).keys() >= {'knn/top1_k10', 'knn/top1_k20'}
    pictures = tmp_path / 'attention.png', tmp_path / 'curves.png'
    call(
        *('tools/analysis_tools/visualize_network.py', 'attention', checkpoint),
        *(data / 'imagenet/val', '--image-size', 64, '--out', pictures[0]),
    )
    call('tools/analysis_tools/plot_curves.py', work_dir, '--out', pictures[1])
    for picture in pictures:
        assert min(Image.open(picture).size) > 100


@pytest.fixture
def demo(monkeypatch):
    """The tool, of which nothing is trained and everything measured at once."""
    spec = importlib.util.spec_from_file_location('demo', TOP / 'tools/demo.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'pretrain', lambda: Path('epoch_1.pth'))
    monkeypatch.setattr(module, 'draw_predictions', lambda *_: None)
    rows = {
        'knn, top1': dict(teacher=70.0, untrained=40.0, pixels=45.0),
        'clustering, nmi': dict(teacher=50.0, untrained=40.0),
    }
    monkeypatch.setattr(module, 'evaluate', lambda _: {k: dict(v) for k, v in rows.items()})
    monkeypatch.setattr(
        module,
        'fine_tune',
        lambda config, checkpoint, titles: {t: dict(teacher=2.0, untrained=1.0) for t in titles},
    )
    module.rows, module.commands = rows, []
    monkeypatch.setattr(module, 'run', lambda *words: module.commands.append(words))
    return module


@pytest.mark.parametrize(
    'title, values, message',
    [
        ('knn, top1', dict(teacher=70.0), None),
        ('knn, top1', dict(teacher=59.0), 'leads by 14.0 points, at least 15'),
        ('knn, top1', dict(teacher=40.0), 'not ahead in knn, top1$'),
        ('clustering, nmi', dict(untrained=50.0), 'not ahead in clustering, nmi$'),
    ],
)
def test_demo_fails_unless_ahead_in_every_row(title, values, message, demo, capsys):
    demo.rows[title] |= values
    if message:
        with pytest.raises(SystemExit, match=message):
            demo.show_transfer()
    else:
        demo.show_transfer()
    printed = capsys.readouterr().out
    wanted = ('knn, top1', 'clustering, nmi', '300 labels', 'box AP', 'mask AP', 'mIoU')
    assert all(name in printed for name in wanted)
    assert 'pixels' in printed and '45.0' in printed


@pytest.mark.parametrize('stage', ['show_pretraining', 'show_transfer'])
def test_demo_ends_with_the_report(stage, demo, capsys):
    getattr(demo, stage)()
    report = demo.WORK_DIR / 'report.html'
    assert demo.commands[-1] == ('-m', 'ibot_mm', 'report', demo.WORK_DIR, '--out', report)
    first, *rest = capsys.readouterr().out.split('\n')[1:]
    assert first == f'Report, to be opened in a browser: {report}'
    assert any('raw pixels' in line for line in rest)


def test_results_of_tools_become_rows(demo, monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location('fresh_demo', TOP / 'tools/demo.py')
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    checkpoint = tmp_path / 'epoch_1.pth'
    checkpoint.touch()
    row = dict(protocol='knn', metric='top1', value=50.0)
    commands = []

    def write(*command):
        commands.append(command[0])
        if command[0] == 'tools/evaluate.py':
            path = Path(command[-1]) / 'results.json'
            content = dict(summary=dict(teacher=[row], pixels=[row | dict(value=30.0)]))
        else:
            path = Path(command[-1]) / 'metrics.json'
            content = dict(pretrained={'coco/bbox_mAP': 0.2}, scratch={'coco/bbox_mAP': 0.1})
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    monkeypatch.setattr(fresh, 'run', write)
    monkeypatch.setattr(fresh, 'WORK_DIR', tmp_path)
    for _ in range(2):  # the second time nothing is run
        assert fresh.evaluate(checkpoint) == {'knn, top1': dict(teacher=50.0, pixels=30.0)}
        found = fresh.fine_tune('detector.py', checkpoint, {'AP': ('coco/bbox_mAP', 100)})
        assert found == {'AP': dict(teacher=20.0, untrained=10.0)}
    assert len(commands) == 2


def test_make_refuses_an_unknown_stage(call):
    result = call('make', 'run-demo', 'STOP=later', may_fail=True)
    assert result.returncode and 'STOP=pretrain' in result.stderr
