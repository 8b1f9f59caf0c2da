# Linear probing of ViT-B/16: [CLS] beside the mean of the patches. Published: 79.5.
_base_ = ['linear_vits16_100e_in1k.py']

model = dict(
    backbone=dict(
        num_blocks=1,
        pooling='cls_patch_mean',
        backbone=dict(arch='base', init_cfg=dict(checkpoint='work_dirs/ibot_vitb16/epoch_400.pth')),
    ),
    head=dict(in_channels=2 * 768),
)
