# DINOv2's ViT-B/14: layer scale, positions for 518 pixels, crops of a multiple of 14.
_base_ = ['ibot_vitb16_continue.py']

model = dict(
    backbone=dict(
        img_size=518,
        patch_size=14,
        layer_scale_init_value=1e-5,
        init_cfg=dict(checkpoint='dinov2_vitb14_pretrain.pth'),
    )
)
train_dataloader = dict(
    dataset=dict(pipeline=dict(crops=dict(local_crop_size=98), masks=dict(patch_size=14)))
)
