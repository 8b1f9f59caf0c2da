# Fine-tuning ViT-B/16 on Stanford Cars. Published: 94.3.
# Another checkpoint: --cfg-options model.backbone.init_cfg.checkpoint=FILE
_base_ = [
    '../_base_/models/transfer_vit.py',
    '../_base_/datasets/cars.py',
    '../_base_/schedules/transfer.py',
]

model = dict(data_preprocessor=dict(num_classes=196), head=dict(num_classes=196))
optim_wrapper = dict(optimizer=dict(lr=7.5e-05 * 768 / 512))
