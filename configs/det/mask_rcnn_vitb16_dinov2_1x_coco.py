# Mask R-CNN, DINOv2 with registers as a ViT-B/16, 12 epochs: its patches of 14 pixels are resampled
# to 16 when the weights are loaded, so that all strides stay the usual ones; no published result.
_base_ = ['mask_rcnn_vitb16_1x_coco.py']

model = dict(
    backbone=dict(
        num_registers=4,
        layer_scale_init_value=1e-5,
        init_cfg=dict(checkpoint='dinov2_vitb14_reg4_pretrain.pth'),
    )
)
