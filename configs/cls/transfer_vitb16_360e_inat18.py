# Fine-tuning ViT-B/16 on iNaturalist 2018. Published: 74.6.
# Another checkpoint: --cfg-options model.backbone.init_cfg.checkpoint=FILE
_base_ = [
    '../_base_/models/transfer_vit.py',
    '../_base_/datasets/inat18.py',
    '../_base_/schedules/transfer.py',
]

model = dict(data_preprocessor=dict(num_classes=8142), head=dict(num_classes=8142))
train_cfg = dict(max_epochs=360)
