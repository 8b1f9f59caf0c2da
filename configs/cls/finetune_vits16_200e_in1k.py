# Fine-tuning ViT-S/16. Published: 82.3.
# Another checkpoint: --cfg-options model.backbone.init_cfg.checkpoint=FILE
_base_ = [
    '../_base_/models/classifier_vit.py',
    '../_base_/datasets/imagenet_finetune.py',
    '../_base_/schedules/finetune.py',
]
