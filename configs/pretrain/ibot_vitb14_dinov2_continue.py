# DINOv2's ViT-B/14 by its own losses, on one's own images. Published: the architecture (layer
# scale, positions for 518 pixels), the losses and crops of _base_/models/dinov2_losses.py, local
# crops of 98 pixels. By judgment: rate, layer decay, lengths, momentum and clipping, which are
# those of every config here that continues; so are gains of prototypes that stay 1:
# docs/continue_training.md. The released weights have no heads: new ones are trained.
_base_ = ['ibot_vitb16_continue.py', '../_base_/models/dinov2_losses.py']

model = dict(
    **_base_.dinov2_losses,
    backbone=dict(
        img_size=518,
        patch_size=14,
        layer_scale_init_value=1e-5,
        init_cfg=dict(checkpoint='dinov2_vitb14_pretrain.pth'),
    ),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=dict(
            crops=dict(_base_.dinov2_crops, local_crop_size=98), masks=dict(patch_size=14)
        )
    )
)
