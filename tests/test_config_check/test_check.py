# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Faults of a config, each as a user would make it, and what the checker says."""

import copy
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from ibot_mm.config_check import check_config, describe_faults, stop_at_faults

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parents[2] / 'configs'
TINY = f"""
_base_ = {str(CONFIGS / 'pretrain/ibot_vit_demo.py')!r}
model = dict(
    backbone=dict(
        arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16),
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels=16, num_prototypes=24, hidden_channels=16, bottleneck_channels=8),
    head=dict(num_prototypes=24),
)
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)
"""
CROPS = 'train_dataloader.dataset.pipeline.crops'
MASKS = 'train_dataloader.dataset.pipeline.masks'
AUGMENT = 'train_dataloader.dataset.pipeline.augment'
OPTIMIZER = 'optim_wrapper.optimizer'
TEMPERATURE = 'default_hooks.temperature'
SHARDED = dict(_delete_=True, type='ibot_mm.ShardedDataParallel')

# Option, value, what the message must say. The key of the option begins it, unless told.
FAULTS = [
    # Shards.
    ('model_wrapper_cfg', dict(SHARDED, num_shard=2), "'num_shards'"),
    ('model_wrapper_cfg.type', 'ibot_mm.ShardedDataParallel', 'broadcast_buffers'),
    # Keys that nobody reads.
    ('optim_wraper.clip_grad.max_norm', 1.0, "'optim_wrapper' meant"),
    ('default_hook.logger.interval', 5, "'default_hooks' meant"),
    ('resum', True, "'resume' meant"),
    ('load_form', 'x.pth', "'load_from' meant"),
    ('train_dataloder.batch_size', 8, "'train_dataloader' meant"),
    ('param_schedulers', [], "'param_scheduler' meant"),
    ('work_dirs', 'x', "'work_dir' meant"),
    ('randomnes.seed', 1, "'randomness' meant"),
    ('max_epochs', 9, "'train_cfg.max_epochs' meant"),
    ('optimizer.lr', 0.1, "'optim_wrapper.optimizer' meant"),
    ('batch_size', 8, "'test_dataloader.batch_size, train_dataloader.batch_size, val_"),
    ('lr_config.policy', 'step', "'param_scheduler' meant"),
    ('resume_from', 'x.pth', "'resume, load_from' meant"),
    ('data_root', '/images', 'train_dataloader.dataset.data_root, val_dataloader'),
    ('train_pipeline.crops.global_crop_size', 64, 'set on the command line, but it is a variable'),
    ('knn_pipeline.load', None, 'it is a variable of the config'),
    # Unknown keys of sections that mmengine reads.
    ('auto_scale_lr.base_batchsize', 64, "'base_batch_size' meant"),
    ('env_cfg.cudnn_benchmrk', True, "'cudnn_benchmark' meant"),
    ('env_cfg.mp_cfg.mp_start', 'fork', "'mp_start_method' meant"),
    ('randomness.sed', 1, "'seed' meant"),
    ('train_dataloader.batchsize', 8, "'batch_size' meant"),
    ('train_dataloader.num_worker', 8, "'num_workers' meant"),
    ('train_dataloader.shufle', True, "'shuffle' meant"),
    ('val_dataloader.pin_memry', True, "'pin_memory' meant"),
    ('train_cfg.max_epoch', 8, "'max_epochs' meant"),
    ('train_cfg.val_intervall', 8, "'val_interval' meant"),
    # Unknown keys of components.
    ('model.evalute', 'student', "IBOT does not take 'evalute'; is 'evaluate' meant"),
    ('model.backbone.drop_path', 0.1, "'drop_path_rate' meant"),
    ('model.neck.num_prototype', 32, "'num_prototypes' meant"),
    ('model.head.centre_momentum', 0.9, "'center_momentum' meant"),
    ('model.head.student_temp', 0.1, "'student_temperature' meant"),
    ('model.data_preprocessor.mean_rgb', [1, 1, 1], 'does not take'),
    (f'{CROPS}.global_size', 32, "'global_crop_size' meant"),
    (f'{CROPS}.num_local_crop', 2, "'num_local_crops' meant"),
    (f'{MASKS}.ratios', [(0.0, 0.0)], "'ratio' meant"),
    (f'{AUGMENT}.locals', {}, "'local' meant"),
    ('model.neck.norm_confg', None, "'norm_cfg' meant"),
    (f'{AUGMENT}.local.blur_probability', 0.5, 'blur_probability'),
    ('train_dataloader.dataset.pipeline.load.on_eror', 'skip', "'on_error' meant"),
    ('train_dataloader.dataset.data_rot', '/images', "'data_root' meant"),
    ('val_dataloader.dataset.bank.with_labels', True, "'with_label' meant"),
    ('train_dataloader.sampler.shufle', True, "'shuffle' meant"),
    ('default_hooks.checkpoint.intervall', 5, "'interval' meant"),
    ('default_hooks.logger.intervals', 5, "'interval' meant"),
    ('default_hooks.prototypes.epoch', 5, "'epochs' meant"),
    ('default_hooks.teacher.momentun', 0.9, "'momentum' meant"),
    (f'{TEMPERATURE}.warm_up_epochs', 5, "'warmup_epochs' meant"),
    ('val_evaluator.k', (10,), "'ks' meant"),
    (f'{OPTIMIZER}.weight_decy', 0.1, "'weight_decay' meant"),
    ('optim_wrapper.clip_gradient', 0.1, "'clip_grad' meant"),
    ('param_scheduler.0.warm_up', 0.1, "'warmup' meant"),
    # Types that do not exist.
    ('model.type', 'ibot_mm.IBOTT', "'ibot_mm.IBOT' meant"),
    ('model.backbone.type', 'ibot_mm.MaskdVisionTransformer', 'MaskedVisionTransformer'),
    (f'{CROPS}.type', 'ibot_mm.MultiCrops', "'ibot_mm.MultiCrop' meant"),
    ('default_hooks.teacher.type', 'ibot_mm.TeacherHook', 'there is no hook'),
    ('train_dataloader.dataset.type', 'ibot_mm.ImageFolders', "'ibot_mm.ImageFolder' meant"),
    (f'{OPTIMIZER}.type', 'AdmW', "'AdamW' meant"),
    ('optim_wrapper.constructor', 'ibot_mm.DecayGroup', 'DecayGroupsConstructor'),
    ('param_scheduler.0.type', 'ibot_mm.WarmupCosin', "'ibot_mm.WarmupCosine' meant"),
    ('train_cfg.type', 'EpochTrainLoop', 'EpochBasedTrainLoop'),
    ('val_evaluator.type', 'ibot_mm.KNNAcuracy', "'ibot_mm.KNNAccuracy' meant"),
    ('default_hooks.more', {'interval': 1}, 'has no type'),
    ('default_hooks.more', 7, 'must be a dict'),
    # Numbers out of range.
    ('model.head.center_momentum', 9, 'center_momentum must be a number in [0, 1], got 9'),
    ('model.head.patch_center_momentum', -0.1, 'in [0, 1], got -0.1'),
    ('model.head.student_temperature', -0.1, 'in (0, inf), got -0.1'),
    ('model.head.student_temperature', 'warm', "got 'warm'"),
    ('model.head.cls_weight', -1, 'in [0, inf), got -1'),
    ('model.backbone.drop_path_rate', 2, 'in [0, 1), got 2'),
    ('model.backbone.num_registers', -1, 'in [0, inf), got -1'),
    ('model.backbone.patch_size', 0, 'patch_size must be a whole number in [1, inf), got 0'),
    ('model.backbone.out_indices', 9, 'out_indices'),
    ('model.neck.hidden_channels', -16, 'hidden_channels must be'),
    ('model.neck.num_layers', 0, 'num_layers >= 1'),
    ('model.evaluate', 'both', "'teacher' or 'student'"),
    ('model.data_preprocessor.std', [0.0, 57.0, 57.0], 'std must each be a number in (0, inf)'),
    (f'{CROPS}.local_crop_scale', (0.5, 0.1), '0 < low <= high <= 1'),
    (f'{CROPS}.flip_prob', 1.5, 'flip_prob must be 0 to 1'),
    (f'{MASKS}.ratio', [(0.9, 0.2)], 'out of range'),
    (f'{MASKS}.shape', 'blob', 'shape must be one of'),
    (f'{AUGMENT}.local.hue', 0.9, 'hue must be between 0 and 0.5'),
    ('train_dataloader.dataset.pipeline.load.in_range', (9, 1), 'low < high'),
    ('default_hooks.teacher.momentum', 1.2, 'momenta must lie in [0, 1]'),
    (f'{TEMPERATURE}.temperature', (0.0, 0.07), 'in (0, inf)'),
    ('default_hooks.prototypes.epochs', -1, 'epochs must be a number in [0, inf)'),
    ('default_hooks.finite_loss.interval', 0, 'in [1, inf), got 0'),
    ('default_hooks.checkpoint.interval', 0, 'must not be 0'),
    ('default_hooks.logger.interval', -5, 'interval'),
    ('val_evaluator.ks', (0,), 'at least 1'),
    (f'{OPTIMIZER}.lr', -1e-3, 'Invalid learning rate'),
    (f'{OPTIMIZER}.betas', (0.9, 1.1), 'beta'),
    ('optim_wrapper.clip_grad.max_norm', -1, 'positive number'),
    ('optim_wrapper.accumulative_counts', 0, 'accumulative_counts'),
    ('param_scheduler.1.final_ratio', -1, 'final_ratio must be a number in [0, inf), got -1'),
    ('param_scheduler.0.warmup', 60, 'does not fit a schedule'),
    ('train_cfg.val_interval', 0, 'val_interval must be a whole number in [1, inf), got 0'),
    ('train_cfg.max_epochs', 'ten', "max_epochs must be a whole number in [1, inf), got 'ten'"),
    ('train_dataloader.batch_size', 0, 'at least 1, got 0'),
    ('train_dataloader.num_workers', -1, 'at least 0, got -1'),
    ('randomness.seed', -3, 'seed must be'),
    ('auto_scale_lr.base_batch_size', None, 'lacks base_batch_size'),
    # What must fit together, and what cannot be reached.
    (f'{MASKS}.patch_size', 4, 'stands for 8 x 8 pixels'),
    (f'{CROPS}.local_crop_size', 20, 'not a whole number of patches of 8; near are 16 and 24'),
    (f'{CROPS}.local_crop_size', 8, 'are fewer than two patches of 8 a side'),
    (f'{CROPS}.global_crop_size', 36, 'not a whole number of patches of 8'),
    (f'{CROPS}.global_crop_size', 4, 'smaller than one patch'),
    ('model.neck.in_channels', 32, 'gives 16 channels'),
    ('model.neck.shared_mlp', False, 'set shared_head=False'),
    ('model.head.num_patch_prototypes', 32, 'num_patch_prototypes is 24 in the neck'),
    ('default_hooks.prototypes.epochs', 100, '100 of 32 epochs is never trained'),
    (f'{TEMPERATURE}.warmup_epochs', 100, 'more than the 32 of train_cfg.max_epochs'),
    (f'{MASKS}.start_epoch', 32, 'leave none with masks'),
    ('model.head.teacher_temperature', 0.07, 'default_hooks.temperature.temperature'),
    ('train_dataloader.persistent_workers', True, 'num_workers is 0: set it to False'),
    ('train_dataloader.prefetch_factor', 2, 'num_workers is 0: leave it out'),
    ('train_cfg.val_begin', 60, 'after the end'),
    ('optim_wrapper.paramwise_cfg', {'layer_decay_rate': 0.7}, 'has no paramwise_cfg'),
    ('val_evaluator', None, 'needs val_evaluator'),
    ('train_dataloader.dataset', None, 'has no dataset'),
    ('train_dataloader.sampler', None, 'has no sampler'),
]


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp('config') / 'tiny.py'
    path.write_text(TINY)
    return Config.fromfile(path)


def faults_of(cfg, options, with_data=False):
    cfg = copy.deepcopy(cfg)
    cfg.merge_from_dict(options)
    return check_config(cfg, options, with_data)


def test_sound(tiny):
    assert faults_of(tiny, {}) == []


@pytest.mark.parametrize(('key', 'value', 'expected'), FAULTS)
def test_fault_is_named(tiny, key, value, expected):
    faults = faults_of(tiny, {key: value})
    assert len(faults) >= 1 and any(expected in fault for fault in faults), faults
    assert len(faults) <= 2, faults  # one mistake is not a flood


def test_shards_need_an_optimizer_of_single_weights(tiny):
    options = {'model_wrapper_cfg': dict(SHARDED)}
    assert faults_of(tiny, options) == []
    options = {
        'model_wrapper_cfg': dict(SHARDED),
        'optim_wrapper.optimizer': dict(_delete_=True, type='LARS', lr=1.0),
    }
    (fault,) = faults_of(tiny, options)
    assert fault.startswith('optim_wrapper.optimizer.type: LARS may need whole weights')


def test_shards_need_our_checkpoints(tiny):
    options = {
        'model_wrapper_cfg': dict(SHARDED),
        'default_hooks.checkpoint': dict(_delete_=True, type='CheckpointHook', interval=1),
    }
    (fault,) = faults_of(tiny, options)
    assert fault.startswith('default_hooks.checkpoint.type') and 'ibot_mm.CheckpointHook' in fault


def test_all_faults_are_in_one_list(tiny):
    options = {
        'model.head.center_momentum': 9,
        'model.head.student_temperature': -0.1,
        'model.backbone.drop_path_rate': 2,
        'resum': True,
        'default_hooks.prototypes.epochs': 100,
        f'{CROPS}.flip_prob': 2,
    }
    text = '\n'.join(faults_of(tiny, options))
    words = (
        'center_momentum',
        'student_temperature',
        'drop_path_rate',
        'resum',
        '100',
        'flip_prob',
    )
    assert all(word in text for word in words), text


def test_hooks_are_switched_off(tiny):
    options = {'default_hooks.prototypes': None, 'default_hooks.timer': None}
    assert faults_of(tiny, options) == []
    runner = Runner.__new__(Runner)  # as any tool of mm uses it
    runner._hooks = []
    hooks = {name: tiny.default_hooks[name] for name in ('teacher', 'prototypes', 'timer')}
    runner.register_default_hooks(hooks | {'prototypes': None, 'timer': None, 'logger': None})
    names = {type(hook).__name__ for hook in runner.hooks}
    assert 'TeacherUpdateHook' in names
    assert not names & {'FreezePrototypesHook', 'IterTimerHook'}


def test_checking_leaves_config_and_randomness_alone(tiny):
    before = copy.deepcopy(tiny.to_dict()), torch.get_rng_state()
    states = random.getstate(), np.random.get_state()[1].tolist()
    faults_of(tiny, {})
    check_config(tiny, {}, False)
    assert tiny.to_dict() == before[0] and torch.equal(torch.get_rng_state(), before[1])
    assert states == (random.getstate(), np.random.get_state()[1].tolist())


def test_batch_against_data(tiny, image_folder):
    folder = {'train_dataloader.dataset.data_root': str(image_folder)}
    others = {f'val_dataloader.dataset.{split}.data_root': str(image_folder)
              for split in ('bank', 'query')}  # fmt: skip
    others |= {key.replace('val', 'test', 1): value for key, value in others.items()}
    assert faults_of(tiny, folder | others, True) == []
    (fault,) = faults_of(tiny, folder | others | {'train_dataloader.batch_size': 9}, True)
    assert fault.startswith('train_dataloader.batch_size: 9 images') and 'lower batch_size' in fault


def test_data_that_is_not_there(tiny):
    faults = faults_of(tiny, {'train_dataloader.dataset.data_root': '/nowhere'}, True)
    assert any('there is no folder /nowhere/train' in fault for fault in faults)


def test_variable_of_a_base_without_effect(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        "_base_ = 'ibot_mm::pretrain/ibot_vits16.py'\ndata_root = '/images'\nmine = 1\n"
    )
    (fault,) = check_config(Config.fromfile(path), {}, False)
    assert fault.startswith('data_root: mine.py sets it, but')


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('max_epochs = 100', "is 'train_cfg.max_epochs' meant"),
        ('checkpoint = dict(interval=5)', "is 'default_hooks.checkpoint' meant"),
        ('optimizer = dict(lr=0.1)', "is 'optim_wrapper.optimizer' meant"),
        ('checkpoint_config = dict(interval=5)', "is 'default_hooks.checkpoint' meant"),
        ('total_epochs = 100', "is 'train_cfg.max_epochs' meant"),
        ('optim_wraper = dict(clip_grad=None)', "is 'optim_wrapper' meant"),
    ],
)
def test_keys_that_stand_too_high_in_a_file(tmp_path, line, expected):
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = 'ibot_mm::pretrain/ibot_vits16.py'\n{line}\n")
    (fault,) = check_config(Config.fromfile(path), {}, False)
    assert expected in fault
    path.write_text(f'{path.read_text()}copy = {line.split()[0]}\n')
    used = check_config(Config.fromfile(path), {}, False)
    assert used == []  # a variable


def test_own_variables_are_no_faults(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        "_base_ = 'ibot_mm::pretrain/ibot_vits16.py'\n"
        "data_root = '/images'\nremark = 'a note'\ntest_pipeline = []\n"
        'train_dataloader = dict(dataset=dict(data_root=data_root))\n'
    )
    assert check_config(Config.fromfile(path), {}, False) == []


def test_dumped_config_is_sound(tiny, tmp_path):
    tiny.dump(tmp_path / 'dumped.py')
    assert check_config(Config.fromfile(tmp_path / 'dumped.py'), {}, False) == []


def test_program_ends_with_the_list(tiny):
    cfg = copy.deepcopy(tiny)
    cfg.model.head.center_momentum = 9
    with pytest.raises(SystemExit) as error:
        stop_at_faults(cfg)
    assert 'model.head: IBOTHead: center_momentum' in str(error.value)
    assert describe_faults(cfg, ['a: b']).endswith('tiny.py has 1 fault:\n  a: b')
