# Mask R-CNN in ViTDet's own recipe, ViT-B/16, 100 epochs of 1024 x 1024 images, 64 a step; no
# published result with iBOT's weights.
_base_ = [
    '../_base_/models/mask_rcnn_vitdet.py',
    '../_base_/datasets/coco_large_scale_jitter.py',
    '../_base_/schedules/coco_1x.py',
]

model = dict(data_preprocessor=dict(pad_size_divisor=1024))
train_cfg = dict(max_epochs=100, val_interval=10)
auto_scale_lr = dict(base_batch_size=64)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7), optimizer=dict(weight_decay=0.1))
warmup = dict(_base_.warmup, end=250)
decay = dict(_base_.decay, end=100, milestones=[89, 96])
param_scheduler = [warmup, decay]
