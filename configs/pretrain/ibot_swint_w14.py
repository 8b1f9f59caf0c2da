# Swin-T with windows of 14. Published: k-NN 76.2, linear 79.3.
_base_ = ['ibot_swint_w7.py']

model = dict(backbone=dict(window_size=14))
