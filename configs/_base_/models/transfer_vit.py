# ViT-B/16 and a linear layer on its [CLS] for transfer to small data.
_base_ = ['classifier_vit.py']

model = dict(
    backbone=dict(arch='base', init_cfg=dict(checkpoint='work_dirs/ibot_vitb16/epoch_400.pth')),
    head=dict(in_channels=768, init_cfg=dict(std=0.02)),
)
