# Linear head on the frozen backbone of configs/pretrain/ibot_vit_demo.py; see upernet_vit_demo.py.
_base_ = [
    '../_base_/models/vit_demo.py',
    '../_base_/models/linear_vit.py',
    '../_base_/datasets/ade20k_demo.py',
    '../_base_/schedules/ade20k_demo.py',
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(**_base_.demo_backbone, out_indices=[0, 1, 2, 3], frozen_stages=4),
    decode_head=dict(in_channels=[96, 96, 96, 96], channels=384, num_classes=11),
    test_cfg=dict(_delete_=True, mode='whole'),
)
optim_wrapper = dict(
    _delete_=True,
    type='ibot_mm.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.05),
)
