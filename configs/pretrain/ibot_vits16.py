# ViT-S/16, 800 epochs. Published: k-NN 75.2, linear 77.9, fine-tuning 82.3.
_base_ = [
    '../_base_/models/ibot_vit.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/ibot.py',
]
