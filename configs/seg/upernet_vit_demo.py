# UperNet on the demo data, for two CPU cores and a minute, with the backbone that
# configs/pretrain/ibot_vit_demo.py trains. From scratch: --cfg-options model.backbone.init_cfg=None
_base_ = [
    '../_base_/models/vit_demo.py',
    '../_base_/models/upernet_vit.py',
    '../_base_/datasets/ade20k_demo.py',
    '../_base_/schedules/ade20k_demo.py',
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(**_base_.demo_backbone, out_indices=[0, 1, 2, 3]),
    decode_head=dict(in_channels=[96, 96, 96, 96], channels=64, num_classes=11),
    auxiliary_head=dict(in_channels=96, channels=64, num_classes=11),
    test_cfg=dict(_delete_=True, mode='whole'),
)
