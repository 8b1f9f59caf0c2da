# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Components in somebody else's config: resolved from every scope, trained with stock parts.

The whole config files of docs/mixing.md are tested in tests/test_downstream/test_mixing.py.
"""

import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.models import VisionTransformer

from ibot_mm.functional.losses import patch_weights
from ibot_mm.functional.token_selection import select_tokens
from ibot_mm.models import IBOTHead, IBOTNeck

pytestmark = pytest.mark.slow

# Registry of mmengine's and a type of ours that lives in it.
TYPES = {
    'MODELS': 'IBOT',
    'TRANSFORMS': 'MultiCrop',
    'DATASETS': 'ImageFolder',
    'HOOKS': 'TeacherUpdateHook',
    'OPTIM_WRAPPERS': 'PerParameterClipOptimWrapper',
    'OPTIM_WRAPPER_CONSTRUCTORS': 'DecayGroupsConstructor',
    'PARAM_SCHEDULERS': 'WarmupCosine',
    'METRICS': 'KNNAccuracy',
    'WEIGHT_INITIALIZERS': 'Pretrained',
}


LONG = [pytest.param(s, marks=pytest.mark.long) for s in ('mmengine', 'mmpretrain', 'mmseg')]


@pytest.mark.parametrize('scope', ['mmdet', *LONG])
def test_types_resolve_in_every_default_scope(scope):
    """In a process of its own, since a default scope and imported packages stay."""
    code = f"""
import mmengine.registry as registry
registry.init_default_scope({scope!r})
for name, kind in {TYPES!r}.items():
    with getattr(registry, name).switch_scope_and_registry(None) as current:
        assert current.get('ibot_mm.' + kind).__name__ == kind, kind
transform = registry.TRANSFORMS.build(dict(type='ibot_mm.MultiCrop', num_global_crops=1))
print(type(transform).__name__)
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 0 and 'MultiCrop' in result.stdout, result.stderr[-2000:]


def views_pipeline(*extra):
    return [
        dict(type='LoadImageFromFile'),
        dict(type='ibot_mm.MultiCrop', num_global_crops=2, global_crop_size=32, num_local_crops=0),
        *extra,
        dict(type='PackInputs'),
    ]


def stock_training(image_folder, tmp_path, **changes):
    """A run of mmpretrain's own: its Runner defaults, samplers and collate."""
    return Config(
        dict(
            default_scope='mmpretrain',
            custom_imports=dict(imports=['ibot_mm']),
            train_dataloader=dict(
                batch_size=4,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=True),
                collate_fn=dict(type='default_collate'),
                dataset=dict(
                    type='CustomDataset', data_root=str(image_folder), data_prefix='train'
                ),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            default_hooks=dict(checkpoint=None),
            work_dir=str(tmp_path),
        )
        | changes
    )


def test_views_and_augmentation_with_simclr(image_folder, tmp_path, train):
    cfg = stock_training(
        image_folder,
        tmp_path,
        model=dict(
            type='SimCLR',
            data_preprocessor=dict(
                type='SelfSupDataPreprocessor', mean=[124.0] * 3, std=[58.0] * 3, to_rgb=True
            ),
            backbone=dict(type='ResNet', depth=18, norm_cfg=dict(type='BN')),
            neck=dict(
                type='NonLinearNeck',
                in_channels=512,
                hid_channels=32,
                out_channels=16,
                num_layers=2,
                with_avg_pool=True,
                norm_cfg=dict(type='BN1d'),
            ),
            head=dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.1),
        ),
    )
    cfg.train_dataloader.dataset.pipeline = views_pipeline(
        dict(type='ibot_mm.PhotometricAugmentation', apply=True)
    )
    cfg.optim_wrapper.update(
        type='ibot_mm.PerParameterClipOptimWrapper', clip_grad=dict(max_norm=1.0)
    )
    cfg.param_scheduler = dict(
        type='ibot_mm.WarmupCosine',
        param_name='lr',
        final=0.0,
        warmup=1,
        convert_to_iter_based=True,
    )
    runner = train(cfg)
    assert torch.tensor(runner.message_hub.get_scalar('train/loss').current()).isfinite()
    assert runner.message_hub.get_scalar('train/grad_norm').current() > 0


def test_masked_backbone_in_a_stock_classifier(image_folder, tmp_path, train):
    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
    cfg = stock_training(
        image_folder,
        tmp_path,
        model=dict(
            type='ImageClassifier',
            backbone=dict(
                type='ibot_mm.MaskedVisionTransformer',
                arch=arch,
                img_size=32,
                patch_size=8,
                out_type='cls_token',
                mask_token=False,
            ),
            head=dict(
                type='LinearClsHead',
                num_classes=2,
                in_channels=16,
                loss=dict(type='CrossEntropyLoss'),
            ),
        ),
    )
    cfg.train_dataloader.dataset.pipeline = [
        dict(type='ibot_mm.LoadImage'),
        dict(type='RandomResizedCrop', scale=32),
        dict(type='ibot_mm.PhotometricAugmentation', apply=True),
        dict(type='PackInputs'),
    ]
    cfg.train_dataloader.batch_sampler = dict(type='ibot_mm.SeededBatchSampler')
    cfg.custom_hooks = [dict(type='ibot_mm.TrainingSeedHook'), dict(type='ibot_mm.FiniteLossHook')]
    cfg.optim_wrapper.constructor = 'ibot_mm.DecayGroupsConstructor'
    cfg.optim_wrapper.optimizer = dict(type='AdamW', lr=1e-3, weight_decay=0.05)
    train(cfg)


def test_head_and_neck_on_a_stock_backbone():
    init_default_scope('mmpretrain')
    backbone = VisionTransformer(
        arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32),
        img_size=32,
        patch_size=8,
        out_type='raw',
    )
    neck = IBOTNeck(16, num_prototypes=12, hidden_channels=16, bottleneck_channels=8)
    head = IBOTHead(num_prototypes=12)
    masks = torch.rand(4, 16) < 0.5
    tokens = backbone(torch.randn(4, 3, 32, 32))[-1]
    patches = masks.flatten().nonzero().flatten()
    projections = neck.project(select_tokens(tokens, patches))
    student_cls, student_patch = neck.logits(projections[:4], projections[4:])
    with torch.no_grad():
        teacher_cls, teacher_patch = neck(tokens)
    losses = head.loss(
        student_cls=student_cls.unflatten(0, (2, 2)),
        student_patch=student_patch,
        teacher_cls=teacher_cls.unflatten(0, (2, 2)),
        teacher_patch=teacher_patch[masks],
        teacher_patch_mean=teacher_patch.mean(dim=(0, 1)),
        patch_weights=patch_weights(masks, patches),
    )
    (losses['loss_cls'] + losses['loss_patch']).backward()
    assert backbone.cls_token.grad.abs().sum() > 0
    torch.testing.assert_close(head.cls_center, 0.1 * teacher_cls.mean(dim=0))
