# Fine-tuning the student of ViT-L/16, pre-trained on ImageNet-22K. Published: 86.6; its
# recipe is not: this is that of ViT-L/16 pre-trained on ImageNet-1K.
_base_ = ['finetune_vitl16_50e_in1k.py']

checkpoint = dict(checkpoint='work_dirs/ibot_vitl16_22k/epoch_50.pth', network='student')
model = dict(backbone=dict(init_cfg=checkpoint))
