# A small ViT on CIFAR-10 as a folder, for two CPU cores (its settings are untried):
#     data/cifar10/{train,val}/CLASS/*.jpg, images of 32 x 32 pixels
#     python tools/train.py configs/pretrain/ibot_vit_cifar10.py
#     python tools/evaluate.py work_dirs/ibot_vit_cifar10/epoch_24.pth \
#         --config configs/pretrain/ibot_vit_cifar10.py --baselines
#
# The settings are those of ibot_vit_demo.py, for images in which color tells something.
_base_ = ['ibot_vits16.py']

data_root = 'data/cifar10/'
wide = dict(type='Kaiming', layer='Linear', mode='fan_in', nonlinearity='linear')
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512
        ),
        img_size=32,
        patch_size=4,
        drop_path_rate=0.0,
        init_cfg=wide,
    ),
    neck=dict(
        in_channels=128,
        num_prototypes=1024,
        hidden_channels=256,
        bottleneck_channels=64,
        norm_last_layer=True,
        init_cfg=wide,
    ),
    head=dict(num_prototypes=1024, center_momentum=0.5, patch_center_momentum=0.5),
)

sharp = dict(blur_prob=0.0)  # 32 pixels bear no blur
train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        data_root=data_root,
        pipeline=dict(
            crops=dict(
                global_crop_size=32,
                global_crop_scale=(0.4, 1.0),
                num_local_crops=2,
                local_crop_size=16,
                local_crop_scale=(0.1, 0.4),
            ),
            augment=dict(global_first=sharp, global_rest=sharp, local=sharp),
            masks=dict(patch_size=4),
        ),
    ),
)

knn_pipeline = dict(resize=None, crop=None)
val_dataloader = dict(
    batch_size=200,
    num_workers=1,
    dataset=dict(
        bank=dict(data_root=data_root, pipeline=knn_pipeline),
        query=dict(data_root=data_root, pipeline=knn_pipeline),
    ),
)
test_dataloader = val_dataloader

auto_scale_lr = dict(base_batch_size=128)
optim_wrapper = dict(
    type='ibot_mm.PerParameterClipOptimWrapper',
    optimizer=dict(lr=1e-3),
    clip_grad=dict(max_norm=0.3),
)
learning_rate_schedule = dict(_base_.learning_rate_schedule, warmup=3)
param_scheduler = [learning_rate_schedule, _base_.weight_decay_schedule]
train_cfg = dict(max_epochs=24, val_interval=4)
default_hooks = dict(
    temperature=dict(temperature=(0.01, 0.02), patch_temperature=(0.02, 0.03), warmup_epochs=10),
    prototypes=dict(epochs=1),
    teacher=dict(momentum=0.99),
    checkpoint=dict(interval=4),
    progress=dict(type='ibot_mm.ProgressBarHook'),
)
