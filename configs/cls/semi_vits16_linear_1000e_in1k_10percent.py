# Fine-tuning ViT-S/16 with 10 % of the labels and a plain linear layer, without the projection
# head. Published: 74.0.
_base_ = ['semi_vits16_1000e_in1k_10percent.py']

model = dict(neck=None, head=dict(in_channels=384))
