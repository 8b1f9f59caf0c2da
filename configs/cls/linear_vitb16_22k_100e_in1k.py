# Linear probing of the student of ViT-B/16 that was pre-trained on ImageNet-22K. Published: 79.0.
_base_ = ['linear_vitb16_100e_in1k.py']

checkpoint = dict(checkpoint='work_dirs/ibot_vitb16_22k/epoch_80.pth', network='student')
model = dict(backbone=dict(backbone=dict(init_cfg=checkpoint)))
