# Linear probing of ViT-L/16, pre-trained with random masks. Published: 81.3.
_base_ = ['linear_vitl16_100e_in1k.py']

model = dict(
    backbone=dict(
        backbone=dict(init_cfg=dict(checkpoint='work_dirs/ibot_vitl16_rand/epoch_250.pth'))
    )
)
