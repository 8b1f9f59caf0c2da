# Linear classifiers of 45 learning rates on the features of a frozen ViT-S/16: [CLS] of the last
# four blocks.
model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor',
        num_classes=1000,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(
        type='ibot_mm.FrozenFeatures',
        num_blocks=4,
        pooling='cls',
        backbone=dict(
            type='ibot_mm.MaskedVisionTransformer',
            arch='small',
            img_size=224,
            patch_size=16,
            mask_token=False,
            init_cfg=dict(
                type='ibot_mm.Pretrained', checkpoint='work_dirs/ibot_vits16/epoch_800.pth'
            ),
        ),
    ),
    head=dict(type='ibot_mm.LinearSweepHead', num_classes=1000, in_channels=4 * 384),
)
