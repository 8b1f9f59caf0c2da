# ViT-S/16 and a linear layer on its [CLS], all of it trained, on mixed images and smoothed targets.
model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor',
        to_onehot=True,
        num_classes=1000,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
        batch_augments=dict(
            augments=[  # one of the two for each batch
                dict(type='ibot_mm.ReversedMixup', alpha=0.8),
                dict(type='ibot_mm.ReversedCutMix', alpha=1.0),
            ]
        ),
    ),
    backbone=dict(
        type='ibot_mm.MaskedVisionTransformer',
        arch='small',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        mask_token=False,
        out_type='cls_token',
        init_cfg=dict(type='ibot_mm.Pretrained', checkpoint='work_dirs/ibot_vits16/epoch_800.pth'),
    ),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=384,
        loss=dict(type='ibot_mm.SmoothedCrossEntropy', smoothing=0.1),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02 * 0.001),
    ),
)
