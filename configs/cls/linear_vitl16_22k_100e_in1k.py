# Linear probing of the student of ViT-L/16 that was pre-trained on ImageNet-22K. Published: 82.3.
_base_ = ['linear_vitl16_100e_in1k.py']

checkpoint = dict(checkpoint='work_dirs/ibot_vitl16_22k/epoch_50.pth', network='student')
model = dict(backbone=dict(backbone=dict(init_cfg=checkpoint)))
