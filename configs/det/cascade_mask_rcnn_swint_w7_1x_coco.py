# Cascade Mask R-CNN, Swin-T with windows of 7, 12 epochs: mmdet's Swin in the recipe of the
# published Cascade Mask R-CNN, without layer decay as published for Swin; no published result.
# Another checkpoint: --cfg-options model.backbone.init_cfg.checkpoint=FILE
_base_ = [
    '../_base_/models/cascade_mask_rcnn_vit.py',
    '../_base_/datasets/coco_multi_scale.py',
    '../_base_/schedules/coco_1x.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.2,
        norm_cfg=dict(type='LN', eps=1e-6),  # of the pre-training
        init_cfg=dict(
            type='ibot_mm.Pretrained', checkpoint='work_dirs/ibot_swint_w7/epoch_300.pth'
        ),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
optim_wrapper = dict(
    constructor='DefaultOptimWrapperConstructor',
    paramwise_cfg=dict(
        _delete_=True,
        custom_keys={
            'relative_position_bias_table': dict(decay_mult=0.0),
            'norm': dict(decay_mult=0.0),
        },
    ),
)
