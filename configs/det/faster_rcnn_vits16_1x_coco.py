# Faster R-CNN, ViT-S/16, 12 epochs; no published result.
_base_ = ['faster_rcnn_vitb16_1x_coco.py']

model = dict(
    backbone=dict(
        arch='small',
        img_size=(800, 1008),
        drop_path_rate=0.1,
        init_cfg=dict(checkpoint='work_dirs/ibot_vits16/epoch_800.pth'),
    ),
    neck=dict(in_channels=[384, 384, 384, 384]),
)
train_dataloader = dict(batch_size=4)  # x 8 GPUs = 32
auto_scale_lr = dict(base_batch_size=32)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
