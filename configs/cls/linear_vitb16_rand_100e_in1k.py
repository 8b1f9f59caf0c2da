# Linear probing of ViT-B/16, pre-trained with random masks. Published: 79.8.
_base_ = ['linear_vitb16_100e_in1k.py']

model = dict(
    backbone=dict(
        backbone=dict(init_cfg=dict(checkpoint='work_dirs/ibot_vitb16_rand/epoch_400.pth'))
    )
)
