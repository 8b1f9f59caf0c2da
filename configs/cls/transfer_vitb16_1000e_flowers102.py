# Fine-tuning ViT-B/16 on Oxford Flowers. Published: 98.9.
# Another checkpoint: --cfg-options model.backbone.init_cfg.checkpoint=FILE
_base_ = [
    '../_base_/models/transfer_vit.py',
    '../_base_/datasets/flowers102.py',
    '../_base_/schedules/transfer.py',
]

model = dict(data_preprocessor=dict(num_classes=102), head=dict(num_classes=102))
