# Linear head on a frozen ViT-S/16, crops of 512 pixels; the settings of ViT-B/16, no published
# result.
_base_ = ['linear_vitb16_512_160k_ade20k.py']

model = dict(
    backbone=dict(arch='small', init_cfg=dict(checkpoint='work_dirs/ibot_vits16/epoch_800.pth')),
    decode_head=dict(in_channels=[384, 384, 384, 384], channels=1536),
)
