# UperNet, DINOv2 with registers as a ViT-B/16, crops of 512 pixels: its patches of 14 pixels are
# resampled to 16 when the weights are loaded; no published result.
_base_ = ['upernet_vitb16_512_160k_ade20k.py']

model = dict(
    backbone=dict(
        num_registers=4,
        layer_scale_init_value=1e-5,
        init_cfg=dict(checkpoint='dinov2_vitb14_reg4_pretrain.pth'),
    )
)
