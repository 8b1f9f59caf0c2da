# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Verdicts on logs that are written here: each state of a training, and what is not one."""

import json

import pytest

from ibot_mm.diagnosis import diagnose
from tools.analysis_tools import diagnose as tool

STEPS, EPOCHS = 10, 20
CONFIG = f"""
model = dict(head=dict(num_prototypes=256))
train_cfg = dict(max_epochs={EPOCHS})
"""


def line(start, end):
    return lambda share: start + (end - start) * share


HEALTHY = dict(
    loss_cls=line(5.5, 3.0),
    loss_patch=line(4.0, 2.0),
    cls_entropy=line(0.9, 0.4),
    patch_entropy=line(0.9, 0.4),
    cls_prototypes=line(5, 100),
    patch_prototypes=line(5, 100),
    cls_rank=line(20, 40),
    patch_rank=line(20, 40),
    agreement=line(0.1, 0.7),
    teacher_step=line(0.02, 0.01),
    grad_norm=line(3, 2),
    waiting=line(0.03, 0.03),
    lr=lambda share: 1e-3 * (1 - share),
)


@pytest.fixture
def write_run(tmp_path):
    """Write the log of a training, with k-NN after every second epoch."""

    def write(knn=lambda share: min(30 + 30 * share, 50), done=1.0, **changes):
        curves = HEALTHY | changes
        records = []
        for step in range(1, int(STEPS * EPOCHS * done) + 1):
            share = step / (STEPS * EPOCHS)
            epoch = (step - 1) // STEPS + 1
            values = {name: curve(share) for name, curve in curves.items() if curve}
            records.append(dict(values, epoch=epoch, iter=step, step=step))
            if step % (2 * STEPS) == 0:
                records.append({'knn/top1_k20': knn(share), 'step': epoch})
        folder = tmp_path / 'run/20260101_000000/vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, records)))
        (tmp_path / 'run/config.py').write_text(CONFIG)
        return tmp_path / 'run'

    return write


@pytest.mark.parametrize(
    ('changes', 'verdict', 'words'),
    [
        (dict(), 'healthy', 'agreement 70% after 10%'),
        (dict(loss_cls=lambda share: float('nan')), 'collapsing', 'not finite'),
        (dict(knn=lambda share: 50 - 30 * share), 'collapsing', 'k-NN fell from 47.0 to 20.0'),
        (dict(cls_prototypes=line(100, 1.01)), 'collapsing', 'use 1.01 prototypes'),
        (dict(cls_rank=line(40, 2)), 'collapsing', 'fell from 39.8 to 2.0'),
        (dict(grad_norm=lambda share: 2 if share < 0.98 else 300), 'collapsing', 'norm is 300'),
        (dict(cls_entropy=line(0.99, 0.99)), 'nothing learned yet', 'entropy 99.0% of ln K'),
        (dict(cls_entropy=None, teacher_entropy=line(5.5, 5.5)), 'nothing learned yet', '99.2%'),
        (dict(knn=line(30, 30.5)), 'nothing learned yet', 'k-NN is 30.5'),
        (dict(agreement=line(0.1, 0.11)), 'nothing learned yet', 'for 11% of the images'),
        (dict(waiting=line(0.5, 0.5)), 'starved by loading', '50% of the time'),
        (dict(knn=line(30, 60)), 'schedule finished too early', 'rose from 51.0 to 60.0'),
        (dict(knn=line(30, 60), done=0.5), 'healthy', 'k-NN 45.0 after 33.0'),
    ],
)
def test_verdict(write_run, changes, verdict, words):
    found = diagnose(write_run(**changes))
    assert found.verdict == verdict
    assert words in found.findings[0].evidence
    assert (verdict == 'healthy') == (found.findings[0].advice == '')
    assert found.done == pytest.approx(changes.get('done', 1.0))


def test_tool_prints_a_verdict_and_draws(write_run, capsys):
    run = write_run(waiting=line(0.5, 0.5))
    tool.main([str(run)])
    printed = capsys.readouterr().out
    assert 'starved by loading (100% of the training is done)' in printed
    assert 'num_workers' in printed
    assert (run / 'health.png').stat().st_size > 20_000


def test_what_is_not_a_training(write_run, tmp_path):
    with pytest.raises(SystemExit, match='no .*scalars.json'):
        tool.main([str(tmp_path)])
    run = write_run(loss_cls=None)
    with pytest.raises(SystemExit, match='not a pre-training'):
        tool.main([str(run)])


def test_a_run_without_its_config(write_run):
    run = write_run()
    (run / 'config.py').unlink()
    with pytest.raises(FileNotFoundError, match='has no config'):
        diagnose(run)
