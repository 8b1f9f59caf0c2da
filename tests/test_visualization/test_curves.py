# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import json
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from ibot_mm.visualization import draw_curves, find_scalars, read_curves, save_curves

pytestmark = pytest.mark.slow

ITERATIONS = 5  # of one epoch


class Line(BaseModel):
    """A model with two losses."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, inputs: Tensor, mode: str = 'tensor') -> dict[str, Tensor] | list:
        output = self.linear(inputs)
        if mode == 'loss':
            return dict(loss_cls=output.square().mean(), loss_patch=output.abs().mean())
        return [dict()]


class Constant(BaseMetric):
    default_prefix = 'knn'

    def process(self, data_batch, data_samples) -> None:
        self.results.append(0)

    def compute_metrics(self, results) -> dict[str, float]:
        return dict(top1_k10=40.0, top1_k20=50.0, top5_k20=90.0)


def train(work_dir: Path, by_epoch: bool, name: str, **kwargs) -> None:
    loader = dict(
        batch_size=1,
        num_workers=0,
        dataset=[dict(inputs=torch.ones(1))] * ITERATIONS,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    length = dict(max_epochs=3) if by_epoch else dict(max_iters=15)
    Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        val_evaluator=[Constant()],
        train_cfg=dict(by_epoch=by_epoch, val_interval=1 if by_epoch else 6, **length),
        val_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=2, **kwargs)),
        log_processor=dict(by_epoch=by_epoch),
        experiment_name=f'{work_dir.name}_{name}',
        default_scope='mmengine',
    ).train()


def test_epochs_of_a_real_run(tmp_path):
    train(tmp_path, by_epoch=True, name='epochs')
    curves, unit = read_curves(find_scalars(tmp_path))
    assert unit == 'epoch'
    # Logged after the second and fourth of the five iterations of each epoch.
    assert [x for x, _ in curves['loss']] == pytest.approx([0.4, 0.8, 1.4, 1.8, 2.4, 2.8])
    assert {'loss', 'loss_cls', 'loss_patch', 'lr'} <= set(curves)
    assert [name for name in curves if 'top1' in name] == ['knn/top1_k10', 'knn/top1_k20']
    assert curves['knn/top1_k20'] == [(1, 50.0), (2, 50.0), (3, 50.0)]
    assert len(curves['time']) == len(curves['loss'])


@pytest.mark.parametrize('log_metric_by_epoch', [True, False])
def test_iterations_of_a_real_run(tmp_path, log_metric_by_epoch):
    train(
        tmp_path,
        by_epoch=False,
        name=f'iterations_{log_metric_by_epoch}',
        log_metric_by_epoch=log_metric_by_epoch,
    )
    curves, unit = read_curves(find_scalars(tmp_path))
    assert unit == 'iteration'
    assert [x for x, _ in curves['loss']] == [2, 4, 6, 8, 10, 12, 14]
    assert curves['knn/top1_k10'][:2] == [(6, 40.0), (12, 40.0)]


def write(work_dir: Path, time: str, records: list[dict]) -> Path:
    file = work_dir / time / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text('\n'.join(json.dumps(record) for record in records) + '\n')
    return file


def record(iteration: int, loss: float) -> dict:
    return {'loss': loss, 'iter': iteration, 'epoch': (iteration + 9) // 10, 'step': iteration}


def test_resumed_run_counts_the_later_file(tmp_path):
    write(
        tmp_path, '20200102', [record(20, 2.5), record(30, 2.0), {'knn/top1_k20': 5.0, 'step': 3}]
    )
    write(
        tmp_path,
        '20200101',
        [record(10, 4.0), record(20, 3.0), {'knn/top1_k20': 1.0, 'step': 3}],
    )
    files = find_scalars(tmp_path)
    assert [file.parts[-3] for file in files] == ['20200101', '20200102']
    curves, _ = read_curves(files)
    assert curves['loss'] == [(1.0, 4.0), (2.0, 2.5), (3.0, 2.0)]
    assert curves['knn/top1_k20'] == [(3, 5.0)]


def test_broken_line_is_left_out(tmp_path):
    file = write(tmp_path, '20200101', [record(10, 4.0)])
    with file.open('a') as stream:
        stream.write('{"loss": 3.')
    assert read_curves([file])[0]['loss'] == [(1.0, 4.0)]


CURVES = {
    'loss': [(1.0, 3.0), (2.0, 2.0)],
    'loss_cls': [(1.0, 2.0), (2.0, 1.0)],
    'knn/top1_k10': [(1.0, 40.0)],
    'knn/top1_k20': [(1.0, 50.0)],
    'knn/top5_k20': [(1.0, 90.0)],
    'lr': [(1.0, 0.1), (2.0, 0.2)],
}


def test_panels():
    loss, knn, lr = draw_curves(CURVES, 'epoch', ['lr']).axes
    assert [line.get_label() for line in loss.lines] == ['loss', 'loss_cls']
    assert loss.lines[1].get_xydata().tolist() == [[1.0, 2.0], [2.0, 1.0]]
    assert [line.get_label() for line in knn.lines] == ['k = 10', 'k = 20']
    assert lr.get_title(loc='left') == 'lr'
    assert {axis.get_xlabel() for axis in (loss, knn, lr)} == {'epoch'}


def test_run_without_validation_has_one_panel():
    assert len(draw_curves({'loss': [(1.0, 3.0)]}, 'epoch').axes) == 1


def test_png_is_written_into_a_new_folder(tmp_path):
    file = write(tmp_path, '20200101', [record(10, 4.0), record(20, 3.0)])
    path = save_curves(tmp_path / 'new' / 'curves.png', file)
    assert imread(path).shape[0] > 400


def test_unknown_key():
    with pytest.raises(ValueError, match=r"no \['momentum'\] among"):
        draw_curves(CURVES, 'epoch', ['momentum'])


def test_nothing_to_draw():
    with pytest.raises(ValueError, match='no losses or top-1'):
        draw_curves({'lr': [(1.0, 0.1)]}, 'epoch')


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='work directory of a training run'):
        find_scalars(tmp_path)
