# ViT-B/16 from existing weights: published iBOT, DINO, MAE, timm, DeiT, ...
_base_ = ['ibot_vits16_continue.py']

model = dict(backbone=dict(arch='base'), neck=dict(in_channels=768))
