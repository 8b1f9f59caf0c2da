# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Every benchmark of training and evaluation, at a size of a second."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import common, cost, evaluation, step, workload
from benchmarks.published_training import import_published
from benchmarks.training import OurTraining

ROOT = Path(__file__).parents[2]
TINY = [
    '--arch=tiny', '--batch-size=2', '--global-size=64', '--local-size=32', '--local-crops=2',
    '--prototypes=64', '--steps=2', '--rounds=1',
]  # fmt: skip


def test_step(tmp_path):
    path = tmp_path / 'step.json'
    result = step.main([*TINY, '--profile', '--json', str(path)])
    settings = result['settings']
    assert json.loads(path.read_text())['figures'] == result['figures']
    seconds = result['figures'][common.OURS]['median']
    assert settings['images_per_s_ours'] == pytest.approx(2 / seconds)
    rate = settings['utilisation'] * settings['ceiling_gflop_per_s']
    assert rate == pytest.approx(settings['gflop'] / seconds)
    assert len(settings['profile']) == 10 and settings['profile'][0][1] > 0.05


@pytest.mark.parametrize('option', ['--dtype=bfloat16', '--checkpoint-activations'])
def test_step_with_options(option):
    assert step.main([*TINY, option])['figures'][common.OURS]['median'] > 0


def test_step_on_images(image_folder):
    """Through the config's loader, whose waits are counted."""
    args = step.parse_args([*TINY, '--global-size=224', '--local-size=96', '--local-crops=10'])
    args.prototypes = 64
    training = OurTraining(workload.Workload(args), str(image_folder / 'train'))
    assert len(training.run()) == 2
    assert sum(training.timer.waits) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize('name', ['memory', 'scaling'])
def test_processes(tmp_path, name):
    path = tmp_path / 'figures.json'
    options = ['--processes', '2'] if name == 'scaling' else []
    command = [sys.executable, '-m', f'benchmarks.{name}', *TINY, *options, '--json', path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    result = json.loads(path.read_text())
    assert all(figures['median'] > 0 for figures in result['figures'].values())


def test_evaluation(capsys):
    result = evaluation.main(['--share=0.001', '--channels=32', '--rounds=1'])
    assert result['figures'][common.OURS]['median'] > 0
    accuracy = result['settings']['accuracy'][common.OURS]
    assert len(accuracy) == 4 and min(accuracy) > 50
    assert 'top-1' in capsys.readouterr().out


def test_operations_of_the_model_are_those_that_run():
    """Of matrix products, counted by torch; drop path is a mean and left out."""
    torch.manual_seed(0)
    options = [*TINY, '--global-size=224', '--local-size=96', '--local-crops=3']
    args = step.parse_args(options)
    args.drop_path = 0.0
    work = workload.Workload(args, number=1)
    runner = OurTraining(work).runner
    data = runner.model.data_preprocessor(work.ours()[0], True)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        losses = runner.model.loss(data['inputs'])
        (losses['loss_cls'] + losses['loss_patch']).backward()
    expected = step.step_of(args)
    expected.masked = data['inputs']['masks'].float().mean().item()
    # The first layer's inputs, the images, get no gradient: some 2 %.
    counted = counter.get_total_flops() / args.batch_size
    assert 0.97 < counted / expected.ours() < 1.0


def test_cost_of_the_recipes():
    paths = sorted(cost.CONFIGS.glob('ibot_vit*.py'))
    assert len(paths) == 7
    for path in paths:
        figures = cost.recipe(path, 0.5)
        assert figures['gflop'] < figures['published_gflop']
        hours, rate = (figures[f'A100 (bf16) {name}'] for name in ('hours', 'images/s'))
        assert rate == pytest.approx(0.5 * 312e12 / figures['gflop'] / 1e9)
        assert hours * 2 == pytest.approx(cost.recipe(path, 0.25)['A100 (bf16) hours'])
    small = cost.recipe(cost.CONFIGS / 'ibot_vits16.py', 0.5)
    images = small['A100 (bf16) hours'] * 3600 * small['A100 (bf16) images/s']
    assert images == pytest.approx(800 * 1_281_167)


def test_timer_goes_round_the_batches():
    timer = workload.Timer([1, 2], 5)
    assert list(timer) == [1, 2, 1, 2, 1]
    assert len(timer.seconds) == len(timer.waits) == len(timer) == 5


def test_both_sides_get_the_same_crops():
    args = step.parse_args(TINY)
    work = workload.Workload(args)
    ours = OurTraining(work).runner.model.data_preprocessor(work.ours()[1], True)['inputs']
    crops, _, masks = work.published()[1]
    for view in range(2):
        torch.testing.assert_close(crops[view], ours['global_crops'][:, view])
        assert torch.equal(masks[view], ours['masks'][:, view])
    torch.testing.assert_close(crops[3], ours['local_crops'][:, 1])


def test_no_clone():
    with pytest.raises(FileNotFoundError, match='nowhere has no main_ibot.*--reference'):
        import_published('nowhere', 'main_ibot')
