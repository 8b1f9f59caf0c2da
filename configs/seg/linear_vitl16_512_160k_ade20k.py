# Linear head on a frozen ViT-L/16, crops of 512 pixels; the settings of ViT-B/16, no published
# result.
_base_ = ['linear_vitb16_512_160k_ade20k.py']

model = dict(
    backbone=dict(
        arch='large',
        out_indices=[7, 11, 15, 23],
        frozen_stages=24,
        init_cfg=dict(checkpoint='work_dirs/ibot_vitl16/epoch_250.pth'),
    ),
    decode_head=dict(in_channels=[1024, 1024, 1024, 1024], channels=4096),
)
