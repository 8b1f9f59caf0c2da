# Linear head on a frozen ViT-B/16, crops of 512 pixels. Published: mIoU 38.3.
# Another checkpoint: --cfg-options model.backbone.init_cfg.checkpoint=FILE
_base_ = [
    '../_base_/models/linear_vit.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_160k.py',
]

train_dataloader = dict(batch_size=4)  # x 4 GPUs = 16
optim_wrapper = dict(
    _delete_=True,
    type='ibot_mm.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=8e-4, weight_decay=0.05),
)
