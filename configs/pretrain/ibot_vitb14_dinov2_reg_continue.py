# DINOv2's ViT-B/14 with its four registers.
_base_ = ['ibot_vitb14_dinov2_continue.py']

model = dict(
    backbone=dict(num_registers=4, init_cfg=dict(checkpoint='dinov2_vitb14_reg4_pretrain.pth'))
)
