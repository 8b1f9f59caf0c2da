# Linear probing of the backbone of configs/pretrain/ibot_vit_demo.py:
#     python tools/train.py configs/cls/linear_vit_demo.py
_base_ = ['../_base_/models/vit_demo.py', 'linear_vits16_100e_in1k.py']

data_root = 'data/demo/imagenet/'
model = dict(
    data_preprocessor=dict(num_classes=10),
    backbone=dict(backbone=_base_.demo_backbone),
    head=dict(num_classes=10, in_channels=4 * 96),
)

train_pipeline = dict(crop=dict(scale=32, crop_ratio_range=(0.25, 1.0)), flip=None)
test_pipeline = dict(resize=None, crop=None)
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    pin_memory=False,
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=1, pin_memory=False, dataset=dict(data_root=data_root, pipeline=test_pipeline)
)
test_dataloader = val_dataloader

auto_scale_lr = dict(base_batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=64 / 256))
learning_rate_schedule = dict(_base_.learning_rate_schedule, T_max=8)
param_scheduler = [learning_rate_schedule]
train_cfg = dict(max_epochs=8, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=8), logger=dict(interval=10))
