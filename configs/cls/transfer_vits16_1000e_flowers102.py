# Fine-tuning ViT-S/16 on Oxford Flowers. Published: 98.6.
_base_ = ['transfer_vitb16_1000e_flowers102.py']

init_cfg = dict(checkpoint='work_dirs/ibot_vits16/epoch_800.pth')
model = dict(backbone=dict(arch='small', init_cfg=init_cfg), head=dict(in_channels=384))
