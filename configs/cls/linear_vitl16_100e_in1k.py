# Linear probing of ViT-L/16: [CLS] beside the mean of the patches. Published: 81.0.
_base_ = ['linear_vitb16_100e_in1k.py']

model = dict(
    backbone=dict(
        backbone=dict(
            arch='large', init_cfg=dict(checkpoint='work_dirs/ibot_vitl16/epoch_250.pth')
        ),
    ),
    head=dict(in_channels=2 * 1024),
)
