# Fine-tuning ViT-L/16, pre-trained with random masks. Published: 85.0.
_base_ = ['finetune_vitl16_50e_in1k.py']

model = dict(backbone=dict(init_cfg=dict(checkpoint='work_dirs/ibot_vitl16_rand/epoch_250.pth')))
