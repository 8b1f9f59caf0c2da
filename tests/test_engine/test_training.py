# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Whole trainings of a tiny iBOT through mmengine's Runner."""

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from ibot_mm.functional.schedules import cosine

pytestmark = pytest.mark.slow


class Probe(Hook):
    """Keeps what a test wants of each iteration."""

    priority = 'LOWEST'

    def __init__(self, read):
        self.read, self.values = read, []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.values.append(self.read(runner, outputs))


def parameters(runner):
    return {name: t.detach().clone() for name, t in runner.model.state_dict().items()}


def test_logs_trains_evaluates_and_saves(tiny_config, train):
    runner = train(tiny_config)
    logged = {name.removeprefix('train/') for name in runner.message_hub.log_scalars}
    assert logged >= {
        'loss', 'loss_cls', 'loss_patch', 'agreement', 'teacher_entropy', 'lr', 'weight_decay',
        'teacher_momentum', 'teacher_temperature', 'teacher_patch_temperature', 'grad_norm',
        'img_per_s', 'time', 'data_time',
    }  # fmt: skip
    accuracy = runner.message_hub.get_scalar('val/knn/top1_k1').current()
    assert accuracy in (0, 25, 50, 75, 100)  # of four images
    printed, _ = runner.log_processor.get_log_after_epoch(runner, 1, 'val')
    assert {name.split('/')[0] for name in printed} == {'knn', 'data_time', 'time'}
    checkpoint = torch.load(f'{runner.work_dir}/epoch_3.pth', weights_only=False)
    state = checkpoint['state_dict']
    assert {'head.cls_center', 'head.patch_center'} <= set(state)
    assert any(name.startswith('teacher.backbone.') for name in state)
    assert not torch.equal(state['teacher.backbone.pos_embed'], state['backbone.pos_embed'])
    assert state['head.patch_center'].any()


def test_teacher_follows_the_momentum_schedule(tiny_config, train):
    name = 'backbone.layers.0.attn.qkv.weight'
    probe = Probe(lambda runner, _: parameters(runner))
    before = []
    train(tiny_config, probe, StartState(before))
    teacher = before[0][f'teacher.{name}']
    for step, state in enumerate(probe.values):
        momentum = cosine(0.996, 1.0, step, len(probe.values))
        teacher = momentum * teacher + (1 - momentum) * state[name]
        torch.testing.assert_close(state[f'teacher.{name}'], teacher)


class StartState(Hook):
    def __init__(self, states):
        self.states = states

    def before_train(self, runner):
        self.states.append(parameters(runner))


@pytest.mark.parametrize(
    'key, name',
    [
        ('prototypes', 'neck.cls_prototypes.parametrizations.weight.original1'),
        ('patch_embedding', 'backbone.patch_embed.projection.weight'),
        ('patch_embedding', 'backbone.patch_embed.projection.bias'),
    ],
)
@pytest.mark.parametrize('frozen_epochs', [0, 1, 2])
def test_parts_rest_in_the_first_epochs(tiny_config, train, frozen_epochs, key, name):
    tiny_config.param_scheduler[0].warmup = 0
    tiny_config.default_hooks.temperature.warmup_epochs = 1
    tiny_config.default_hooks.prototypes.epochs = 0
    tiny_config.default_hooks.patch_embedding = dict(
        type='ibot_mm.FreezePatchEmbeddingHook', epochs=0
    )
    tiny_config.default_hooks[key].epochs = frozen_epochs
    probe = Probe(
        lambda runner, _: (
            runner.epoch,
            parameters(runner),
            len(runner.optim_wrapper.optimizer.state.get(runner.model.get_parameter(name), {})),
        )
    )
    train(tiny_config, probe)
    others = ['backbone.layers.0.attn.qkv.weight', 'backbone.pos_embed']
    for (_, old, _), (epoch, new, num_moments) in zip(probe.values, probe.values[1:]):
        assert torch.equal(old[name], new[name]) == (epoch < frozen_epochs)
        assert (num_moments > 0) == (epoch >= frozen_epochs)
        assert not any(torch.equal(old[other], new[other]) for other in others)


@pytest.mark.parametrize('epochs', [2, 4])
def test_a_temperature_warm_up_that_is_a_share_of_the_training(tiny_config, train, epochs):
    tiny_config.train_cfg.max_epochs = epochs
    tiny_config.default_hooks.temperature.warmup_share = 1.0
    probe = Probe(lambda runner, outputs: runner.model.head.teacher_temperature)
    train(tiny_config, probe)
    expected = torch.linspace(0.04, 0.07, epochs).repeat_interleave(2).tolist()
    assert probe.values == pytest.approx(expected)


def test_temperatures_warm_up_and_patches_wait_for_the_masks(tiny_config, train):
    tiny_config.train_cfg.max_epochs = 5
    tiny_config.default_hooks.temperature.patch_start_epoch = 2
    tiny_config.train_dataloader.dataset.pipeline.masks.start_epoch = 2
    probe = Probe(
        lambda runner, outputs: (
            runner.epoch,
            runner.model.head.teacher_temperature,
            runner.model.head.teacher_patch_temperature,
            outputs['loss_patch'].item(),
        )
    )
    train(tiny_config, probe)
    by_epoch = {epoch: (cls, patch) for epoch, cls, patch, _ in probe.values}
    assert by_epoch == {
        0: (0.04, 0.04),
        1: (0.07, 0.04),
        2: (0.07, 0.04),
        3: (0.07, 0.07),
        4: (0.07, 0.07),
    }
    assert all(loss == 0 for epoch, *_, loss in probe.values if epoch < 2)
    assert any(loss > 0 for epoch, *_, loss in probe.values if epoch >= 2)


def test_accumulated_halves_update_as_often_as_the_optimizer(tiny_config, train):
    tiny_config.optim_wrapper.accumulative_counts = 2
    probe = Probe(lambda runner, _: parameters(runner))
    train(tiny_config, probe)
    names = ['backbone.layers.0.attn.qkv.weight', 'teacher.backbone.layers.0.attn.qkv.weight']
    for step in range(1, len(probe.values)):
        for name in names:
            moved = not torch.equal(probe.values[step - 1][name], probe.values[step][name])
            assert moved == (step % 2 == 1), (step, name)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_resumed_training_is_the_uninterrupted_one(tiny_config, train, num_workers):
    tiny_config.train_dataloader.update(num_workers=num_workers, persistent_workers=num_workers > 0)
    tiny_config.default_hooks.checkpoint.max_keep_ckpts = 3
    whole = parameters(train(tiny_config))
    tiny_config.load_from = f'{tiny_config.work_dir}/epoch_1.pth'
    tiny_config.resume = True
    resumed = parameters(train(tiny_config))
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name


def test_the_number_of_workers_does_not_matter(tiny_config, train):
    alone = parameters(train(tiny_config))
    tiny_config.train_dataloader.update(num_workers=2, persistent_workers=True)
    torch.testing.assert_close(parameters(train(tiny_config)), alone, rtol=0, atol=0)


@pytest.mark.parametrize(
    'options',
    [
        {'optim_wrapper.dtype': 'bfloat16'},
        {'model.backbone.with_cp': True},
        {'model.neck.norm_cfg': dict(type='SyncBN')},
        {'train_dataloader.dataset.pipeline.crops.num_local_crops': 0},
        {'model.neck.shared_head': False},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_train_together_with_accumulation(tiny_config, train, options):
    tiny_config.merge_from_dict({'optim_wrapper.accumulative_counts': 2, **options})
    probe = Probe(lambda _, outputs: outputs['loss'].item())
    train(tiny_config, probe)
    assert all(0 < loss < 30 for loss in probe.values)


@pytest.mark.long
def test_compiled_backbone_trains_the_same(tiny_config, train):
    tiny_config.train_cfg.max_epochs = 1
    tiny_config.param_scheduler[0].warmup = 0
    tiny_config.default_hooks.temperature.warmup_epochs = 1
    tiny_config.model.backbone.drop_path_rate = 0.0
    plain = parameters(train(tiny_config))
    tiny_config.model.compile_backbone = True
    compiled = parameters(train(tiny_config))
    torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-4)


class Explode(Hook):
    """Makes the third iteration's loss infinite."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 3:
            runner.model.head.cls_weight = float('inf')


class HalfLogits(Hook):
    """Logits of the teacher as fp16 gives them, and in one step too large for it."""

    def before_train(self, runner):
        logits, calls = runner.model.teacher.neck.logits, []

        def in_half(*projections):
            calls.append(1)
            factor = 1e6 if len(calls) == 2 else 1
            return tuple((factor * found).half() for found in logits(*projections))

        runner.model.teacher.neck.logits = in_half


@pytest.mark.parametrize('centering', ['sinkhorn', 'mean'])
def test_sinkhorn_with_logits_that_overflow_names_the_way_out(centering, tiny_config, train):
    tiny_config.model.head.update(centering=centering, patch_centering=centering)
    tiny_config.train_cfg.val_interval = 9
    with pytest.raises(FloatingPointError) as error:
        train(tiny_config, HalfLogits())
    assert ('model.neck.precise=True' in str(error.value)) == (centering == 'sinkhorn')
    assert 'The loss is not finite at iteration 1 ' in str(error.value)


def test_a_loss_that_is_not_finite_stops_before_anything_is_saved(tiny_config, train):
    with pytest.raises(FloatingPointError, match=r'iteration 3 \(epoch 1.*loss_cls inf.*epoch_1'):
        train(tiny_config, Explode())
    saved = torch.load(f'{tiny_config.work_dir}/epoch_1.pth', weights_only=False)
    assert all(t.isfinite().all() for t in saved['state_dict'].values() if t.is_floating_point())


@pytest.mark.parametrize(
    'options, message',
    [
        ({'train_cfg.max_epochs': 1}, 'warm-up of lr, 2 iterations, does not fit .* 2 iterations'),
        (
            {'default_hooks.temperature.warmup_epochs': 4},
            'Training of 3 epochs is shorter than the warm-up .* 4 epochs',
        ),
        ({'model.head.num_prototypes': 7}, 'num_prototypes is 24 in the neck and 7 in the head'),
        ({'model.backbone.arch': 'gigantic'}, "Unknown arch 'gigantic'"),
        ({'model.teacher': dict(backbone=dict(patch_size=8))}, 'Teacher and student differ'),
        ({'model.evaluate': 'pupil'}, "'teacher' or 'student', got 'pupil'"),
        ({'default_hooks.teacher.momentum': 1.5}, r'\[0, 1\], got 1.5'),
        (
            {'train_dataloader.dataset.data_root': 'no/such/folder'},
            r'(?s)no folder no/such/folder/train.*DATA_ROOT/train/n01440764',
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
)
def test_bad_settings_fail_before_training(tiny_config, train, options, message):
    started = Probe(lambda runner, _: runner.iter)
    tiny_config.merge_from_dict({**options})
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(tiny_config, started)
    assert not started.values


def test_hooks_name_the_model_that_lacks_a_teacher(tiny_config, train):
    from mmpretrain.models import ImageClassifier, VisionTransformer

    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
    tiny_config.model = dict(
        type='ImageClassifier', backbone=dict(type='VisionTransformer', arch=arch, img_size=16)
    )
    assert ImageClassifier and VisionTransformer
    with pytest.raises(TypeError, match=r'calls set_temperatures\(\).*ImageClassifier'):
        train(tiny_config)
    tiny_config.default_hooks = dict(patches=dict(type='ibot_mm.FreezePatchEmbeddingHook'))
    with pytest.raises(TypeError, match=r'drop_patch_embedding_gradients\(\).*ImageClassifier'):
        train(tiny_config)


def test_inherits_through_the_package(tiny_config, train, tmp_path):
    """`_base_ = 'ibot_mm::...'`, as a person with own images writes it."""
    path = tmp_path / 'own.py'
    path.write_text(
        "_base_ = ['ibot_mm::pretrain/ibot_vits16.py']\n"
        "train_dataloader = dict(dataset=dict(data_root='nowhere', data_prefix=''))\n"
        'val_dataloader = val_cfg = val_evaluator = None\n'
        'test_dataloader = test_cfg = test_evaluator = None\n'
    )
    cfg = Config.fromfile(path)
    cfg.model = tiny_config.model
    cfg.default_hooks = tiny_config.default_hooks
    cfg.train_cfg.max_epochs = 3
    cfg.merge_from_dict(
        {
            'train_dataloader.dataset.data_root': tiny_config.train_dataloader.dataset.data_root,
            'train_dataloader.batch_size': 4,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'train_dataloader.dataset.pipeline.crops.global_crop_size': 16,
            'train_dataloader.dataset.pipeline.crops.local_crop_size': 8,
            'train_dataloader.dataset.pipeline.crops.num_local_crops': 2,
            'train_dataloader.dataset.pipeline.masks.patch_size': 4,
            'param_scheduler.0.warmup': 1,
            'work_dir': tiny_config.work_dir,
        }
    )
    runner = train(cfg)
    assert runner.iter == 9  # 12 images of both splits, 4 at a time, 3 epochs
