# Fine-tuning the student of ViT-L/16, pre-trained on ImageNet-22K, at 512 pixels. Published: 87.8,
# without its recipe: this is that of 224 pixels.
_base_ = ['finetune_vitl16_512_50e_in1k.py']

checkpoint = dict(checkpoint='work_dirs/ibot_vitl16_22k/epoch_50.pth', network='student')
model = dict(backbone=dict(init_cfg=checkpoint))
