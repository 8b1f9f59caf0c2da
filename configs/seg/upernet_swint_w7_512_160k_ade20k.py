# UperNet, Swin-T with windows of 7, crops of 512 pixels: mmseg's Swin in mmseg's recipe for it; no
# published result.
# Another checkpoint: --cfg-options model.backbone.init_cfg.checkpoint=FILE
_base_ = [
    'mmseg::_base_/models/upernet_swin.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_160k.py',
]

norm_cfg = dict(_delete_=True, type='ibot_mm.SyncBN')
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        norm_cfg=dict(_delete_=True, type='LN', eps=1e-6),  # of the pre-training
        init_cfg=dict(
            type='ibot_mm.Pretrained', checkpoint='work_dirs/ibot_swint_w7/epoch_300.pth'
        ),
    ),
    decode_head=dict(num_classes=150, norm_cfg=norm_cfg),
    auxiliary_head=dict(num_classes=150, norm_cfg=norm_cfg),
)
optim_wrapper = dict(
    constructor='DefaultOptimWrapperConstructor',
    optimizer=dict(lr=6e-5, weight_decay=0.01),
    paramwise_cfg=dict(
        _delete_=True,
        custom_keys={
            'relative_position_bias_table': dict(decay_mult=0.0),
            'norm': dict(decay_mult=0.0),
        },
    ),
)
