# Fine-tuning ViT-B/16 on iNaturalist 2019. Published: 79.6.
# Another checkpoint: --cfg-options model.backbone.init_cfg.checkpoint=FILE
_base_ = [
    '../_base_/models/transfer_vit.py',
    '../_base_/datasets/inat19.py',
    '../_base_/schedules/transfer.py',
]

model = dict(data_preprocessor=dict(num_classes=1010), head=dict(num_classes=1010))
train_cfg = dict(max_epochs=360)
