# Fine-tuning ViT-B/16 on CIFAR-10. Published: 99.2.
# Another checkpoint: --cfg-options model.backbone.init_cfg.checkpoint=FILE
_base_ = [
    '../_base_/models/transfer_vit.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/transfer.py',
]

model = dict(data_preprocessor=dict(num_classes=10), head=dict(num_classes=10))
