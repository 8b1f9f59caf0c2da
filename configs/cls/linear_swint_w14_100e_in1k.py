# Linear probing of Swin-T with windows of 14. Published: 79.3.
_base_ = ['linear_swint_w7_100e_in1k.py']

init_cfg = dict(checkpoint='work_dirs/ibot_swint_w14/epoch_300.pth')
model = dict(backbone=dict(backbone=dict(window_size=14, init_cfg=init_cfg)))
