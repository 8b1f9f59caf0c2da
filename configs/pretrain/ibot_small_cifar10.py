# A small ViT on natural images of 32 x 32 pixels, for two CPU cores: CIFAR-10 as a folder,
#     data/cifar10/{train,val}/CLASS/*.jpg
#     python tools/train.py configs/pretrain/ibot_small_cifar10.py
#     python tools/evaluate.py work_dirs/ibot_small_cifar10/epoch_36.pth \
#         --config configs/pretrain/ibot_small_cifar10.py --baselines
# Other numbers of images and batch sizes need no other schedule; docs/small_data.md has what to
# expect.
_base_ = ['ibot_vits16.py', '../_base_/schedules/small_data.py']

data_root = 'data/cifar10/'
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384
        ),
        img_size=16,
        patch_size=4,
        drop_path_rate=0.0,
        init_cfg=_base_.small_data.init,
    ),
    neck=dict(
        in_channels=96,
        num_prototypes=512,
        hidden_channels=256,
        bottleneck_channels=64,
        norm_last_layer=True,
        init_cfg=_base_.small_data.init,
    ),
    head=dict(_base_.small_data.head, num_prototypes=512),
    regularizers=_base_.small_data.regularizers,
)

sharp = dict(blur_prob=0.0, solarize_prob=0.0)  # 32 pixels bear no blur
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        data_root=data_root,
        pipeline=dict(
            crops=dict(
                global_crop_size=16,
                global_crop_scale=(0.4, 1.0),
                num_local_crops=0,
            ),
            augment=dict(global_first=sharp, global_rest=sharp, local=sharp),
            masks=dict(patch_size=4),
        ),
    ),
)

knn_pipeline = dict(resize=None, crop=None)
val_dataloader = dict(
    batch_size=200,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        bank=dict(data_root=data_root, pipeline=knn_pipeline),
        query=dict(data_root=data_root, pipeline=knn_pipeline),
    ),
)
val_evaluator = dict(ks=(10, 20, 50))
test_dataloader = val_dataloader
test_evaluator = val_evaluator

auto_scale_lr = _base_.small_data.auto_scale_lr
optim_wrapper = _base_.small_data.optim_wrapper
learning_rate_schedule = dict(_base_.learning_rate_schedule, **_base_.small_data.learning_rate)
weight_decay_schedule = dict(_base_.weight_decay_schedule, **_base_.small_data.weight_decay)
param_scheduler = [learning_rate_schedule, weight_decay_schedule]
train_cfg = dict(max_epochs=36, val_interval=4)
default_hooks = dict(
    _base_.small_data.default_hooks,
    checkpoint=dict(interval=4),
    progress=dict(type='ibot_mm.ProgressBarHook'),
)
