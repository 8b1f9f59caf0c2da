# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Every benchmark of training and evaluation, at a size of a second."""

import functools
import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, DictAction
from mmengine.optim import build_optim_wrapper
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import cost, evaluation, measurement, step, workload
from benchmarks.published_training import import_published
from benchmarks.training import OurTraining
from ibot_mm.datasets import PhotometricAugmentation
from ibot_mm.registry import MODELS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TINY = [
    '--arch=tiny', '--batch-size=2', '--global-crop-size=64', '--local-crop-size=32',
    '--local-crops=2', '--prototypes=64', '--steps=2', '--rounds=1',
]  # fmt: skip


@pytest.mark.long
def test_step(tmp_path, monkeypatch):
    monkeypatch.setattr(step, 'ceiling', functools.partial(step.ceiling, rounds=1))
    path = tmp_path / 'step.json'
    result = step.main([*TINY, '--profile', '--json', str(path)])
    settings = result['settings']
    assert json.loads(path.read_text())['figures'] == result['figures']
    seconds = result['figures'][measurement.OURS]['median']
    assert settings['images_per_s_ours'] == pytest.approx(2 / seconds)
    rate = settings['utilization'] * settings['ceiling_gflop_per_s']
    assert rate == pytest.approx(settings['gflop'] / seconds)
    assert len(settings['profile']) == 10 and settings['profile'][0][1] > 0.05


@pytest.mark.long
@pytest.mark.parametrize(
    'option',
    # Without hardware for it, bfloat16 takes minutes.
    [pytest.param('--dtype=bfloat16', marks=pytest.mark.long), '--checkpoint-activations'],
)
def test_step_with_options(option):
    assert step.main([*TINY, option])['figures'][measurement.OURS]['median'] > 0


@pytest.mark.long
def test_step_in_one_pass(monkeypatch, capsys):
    monkeypatch.setattr(step, 'ceiling', functools.partial(step.ceiling, rounds=1))
    figures = step.main([*TINY, '--pack-crops'])['figures']
    medians = [figures[side]['median'] for side in (measurement.OURS, measurement.ONE_PASS)]
    assert figures[measurement.ONE_PASS]['ratio'] == pytest.approx(medians[0] / medians[1])
    assert 'images_per_s_one_pass' in capsys.readouterr().out


def test_processor_time(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(workload.time, 'process_time', lambda: next(clock))
    timer = workload.Timer([1], 3, processor_time=True)
    list(timer)
    assert timer.seconds == [1, 1, 1]
    with pytest.raises(SystemExit):
        step.parse_args(['--processor-time', '--threads=2'])


def test_step_on_images(image_folder):
    """Through the config's loader, whose waits are counted."""
    args = step.parse_args(
        [*TINY, '--global-crop-size=224', '--local-crop-size=96', '--local-crops=10']
    )
    args.prototypes = 64
    training = OurTraining(workload.Workload(args), str(image_folder / 'train'))
    assert len(training.run()) == 2
    assert sum(training.timer.waits) > 0.01


@pytest.mark.long
@pytest.mark.parametrize('name', ['memory', 'scaling'])
def test_processes(call, tmp_path, name):
    path = tmp_path / 'figures.json'
    options = ['--processes', '2'] if name == 'scaling' else []
    call('-m', f'benchmarks.{name}', *TINY, *options, '--json', path)
    result = json.loads(path.read_text())
    assert all(figures['median'] > 0 for figures in result['figures'].values())


@pytest.mark.parametrize('protocol, number', [('knn', 4), ('logistic', 3)])
def test_evaluation(protocol, number, capsys):
    options = ['--share=0.001', '--channels=32', '--rounds=1', '--classes=50']
    result = evaluation.main([*options, f'--protocol={protocol}'])
    assert result['figures'][measurement.OURS]['median'] > 0
    accuracy = result['settings']['accuracy'][measurement.OURS]
    assert len(accuracy) == number and min(accuracy) > 50
    assert 'top-1' in capsys.readouterr().out


LAYERS, CHANNELS, HEADS, PROTOTYPES, LOCAL_CROPS = 3, 96, 3, 512, 4


def make_step(masked=0.15, drop_path=0.0, pack_crops=False):
    """That of a small ViT."""
    arch = dict(
        embed_dims=CHANNELS, num_layers=LAYERS, num_heads=HEADS, feedforward_channels=4 * CHANNELS
    )
    model = Config.fromfile(cost.CONFIGS / 'ibot_vits16.py').model
    model.backbone.update(arch=arch, drop_path_rate=drop_path)
    model.neck.update(in_channels=CHANNELS, num_prototypes=PROTOTYPES)
    model.head.num_prototypes = PROTOTYPES
    model.pack_crops = pack_crops
    return cost.Step(model, 224, 96, LOCAL_CROPS, masked=masked)


def backbone_by_hand(tokens, wanted=None):
    """Of a crop: patches and layers, where only some outputs are wanted less of the last."""
    dense, attention = 24 * CHANNELS**2, 4 * tokens * CHANNELS
    total = LAYERS * tokens * (dense + attention)
    if wanted == 1:  # one query, neither keys nor values
        total += dense + HEADS * attention - tokens * (dense + attention)
    elif wanted:  # output projection and feed-forward network of those only
        total -= (tokens - wanted) * dense * 9 / 12
    return total + (tokens - 1) * 2 * 3 * 16**2 * CHANNELS


def neck_by_hand(tokens, logits):
    """Of the MLP for some tokens, and of the prototypes for some of them."""
    mlp = CHANNELS * 2048 + 2048**2 + 2048 * 256
    return 2 * tokens * mlp + 2 * logits * 256 * PROTOTYPES


@pytest.mark.long
def test_operations_are_those_counted_by_hand():
    wanted = 1 + 0.15 * 196
    student = 2 * backbone_by_hand(197, wanted) + LOCAL_CROPS * backbone_by_hand(37, 1)
    rows = 2 * wanted + LOCAL_CROPS
    student += neck_by_hand(rows, rows)
    teacher = 2 * backbone_by_hand(197) + neck_by_hand(2 * 197, 2 * wanted)
    # The images, inputs of the first layer, get no gradient.
    images = (2 * 196 + LOCAL_CROPS * 36) * 2 * 3 * 16**2 * CHANNELS
    assert make_step().ours() == pytest.approx(3 * student + teacher - images, rel=1e-3)

    view = 2 * backbone_by_hand(197) + neck_by_hand(2 * 197, 2 * 197)
    local = LOCAL_CROPS * backbone_by_hand(37) + neck_by_hand(LOCAL_CROPS * 37, LOCAL_CROPS)
    unused = neck_by_hand(0, LOCAL_CROPS * 36)  # logits of local patches: forward only
    published = 4 * view + 3 * local + unused - images
    assert make_step().published() == pytest.approx(published, rel=1e-3)


@pytest.mark.long
def test_operations_are_those_that_run():
    """Without values as with them."""
    torch.manual_seed(0)
    masks = torch.rand(20, 2, 14, 14) < 0.3
    expected = make_step(masked=masks.float().mean().item())
    model = MODELS.build(expected.model_cfg)
    inputs = dict(global_crops=torch.randn(20, 2, 3, 224, 224), masks=masks)
    inputs['local_crops'] = torch.randn(20, LOCAL_CROPS, 3, 96, 96)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        losses = model.loss(inputs)
        (losses['loss_cls'] + losses['loss_patch']).backward()
    assert counter.get_total_flops() / 20 == pytest.approx(expected.ours(), rel=1e-3)


@pytest.mark.parametrize('drop_path', [0.0, 0.4])
def test_one_pass_has_the_operations_of_a_pass_for_each_size(drop_path):
    one_pass, apart = (make_step(drop_path=drop_path, pack_crops=pack) for pack in (True, False))
    assert one_pass.ours() == apart.ours()


@pytest.mark.long
def test_drop_path_and_masks_change_the_operations():
    assert make_step(drop_path=0.4).ours() < make_step().ours()
    assert make_step(drop_path=0.4).published() == make_step().published()
    assert make_step(masked=0.0).ours() < make_step().ours() < make_step(masked=0.7).ours()


def test_documented_options_exist():
    """None of them makes a key that no object takes."""
    options = re.findall(r'`([a-z_]+(?:\.\w+)+)=(\w+)`', (ROOT / 'docs/speed.md').read_text())
    assert len(options) >= 9
    cfg = Config.fromfile(cost.CONFIGS / 'ibot_vits16.py')
    cfg.merge_from_dict({name: DictAction._parse_int_float_bool(value) for name, value in options})
    augment = cfg.train_dataloader.dataset.pipeline.augment
    assert augment.pop('type') == 'ibot_mm.PhotometricAugmentation'
    PhotometricAugmentation(**augment)
    assert cfg.model.backbone.with_cp and cfg.model.pop('compile_backbone')
    cfg.model.backbone.arch, cfg.model.neck.in_channels = 'tiny', 192
    model = MODELS.build(cfg.model)
    cfg.optim_wrapper.optimizer.fused = False
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert wrapper._accumulative_counts == 8 and wrapper.cast_dtype == torch.bfloat16


@pytest.mark.long
def test_documented_costs():
    text = (ROOT / 'docs/speed.md').read_text()
    rows = re.findall(r'^\| (ibot_\w+) \| (\d+) \| (\d+) \|', text, re.MULTILINE)
    assert {name for name, _, _ in rows} == {path.stem for path in cost.recipes()}
    for name, ours, published in rows:
        if name in ('ibot_vits16', 'ibot_swint_w7'):
            figures = cost.recipe(cost.CONFIGS / f'{name}.py', 0.35)
            assert round(figures['gflop']) == int(ours)
            assert round(figures['published_gflop']) == int(published)


@pytest.mark.long
def test_cost_of_the_recipes():
    assert len(cost.recipes()) == 9
    for name, epochs in dict(ibot_vits16=800, ibot_swint_w14=300).items():
        figures = cost.recipe(cost.CONFIGS / f'{name}.py', 0.5)
        assert figures['gflop'] < figures['published_gflop']
        hours, rate = (figures[f'A100 (bf16) {part}'] for part in ('hours', 'images/s'))
        assert rate == pytest.approx(0.5 * 312e12 / figures['gflop'] / 1e9)
        assert hours * 3600 * rate == pytest.approx(epochs * 1_281_167)


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
