# Fine-tuning ViT-B/16, pre-trained with random masks. Published: 84.1.
_base_ = ['finetune_vitb16_100e_in1k.py']

model = dict(backbone=dict(init_cfg=dict(checkpoint='work_dirs/ibot_vitb16_rand/epoch_400.pth')))
