# Fine-tuning the student of ViT-B/16, pre-trained on ImageNet-22K. Published: 84.4; its
# recipe is not: this is that of ViT-B/16 pre-trained on ImageNet-1K.
_base_ = ['finetune_vitb16_100e_in1k.py']

checkpoint = dict(checkpoint='work_dirs/ibot_vitb16_22k/epoch_80.pth', network='student')
model = dict(backbone=dict(init_cfg=checkpoint))
