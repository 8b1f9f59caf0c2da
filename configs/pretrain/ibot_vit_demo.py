# A small ViT on the bundled demo data, for two CPU cores: some 11 minutes at 2 GHz.
#     python tools/dataset_converters/make_demo_data.py --out data/demo
#     python tools/train.py configs/pretrain/ibot_vit_demo.py
#
# The published recipe has hundreds of thousands of steps to leave the state in which every image
# gets the same target; here are 1,472. So teacher temperatures start low, centers move
# fast, layers start at full variance, and crops are not recolored (the data have no color cue).
_base_ = ['ibot_vits16.py']

data_root = 'data/demo/imagenet/'
wide = dict(type='Kaiming', layer='Linear', mode='fan_in', nonlinearity='linear')
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384
        ),
        img_size=32,
        patch_size=8,
        drop_path_rate=0.0,
        init_cfg=wide,
    ),
    neck=dict(
        in_channels=96,
        num_prototypes=256,
        hidden_channels=256,
        bottleneck_channels=64,
        norm_last_layer=True,
        init_cfg=wide,
    ),
    head=dict(num_prototypes=256, center_momentum=0.5, patch_center_momentum=0.5),
)

unchanged = dict(jitter_prob=0.0, gray_prob=0.0, blur_prob=0.0, solarize_prob=0.0)
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        data_root=data_root,
        pipeline=dict(
            crops=dict(
                global_crop_size=32,
                global_crop_scale=(0.25, 0.5),
                num_local_crops=2,
                local_crop_size=24,
                local_crop_scale=(0.15, 0.25),
                flip_prob=0.0,  # a mirrored 2 is not a 2
            ),
            augment=dict(global_first=unchanged, global_rest=unchanged, local=unchanged),
            masks=dict(patch_size=8),
        ),
    ),
)

knn_pipeline = dict(resize=None, crop=None)
val_dataloader = dict(
    batch_size=100,
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

auto_scale_lr = dict(base_batch_size=64)
optim_wrapper = dict(
    type='ibot_mm.PerParameterClipOptimWrapper',
    optimizer=dict(lr=1e-3),
    clip_grad=dict(max_norm=0.3),
)
learning_rate_schedule = dict(_base_.learning_rate_schedule, warmup=6)
weight_decay_schedule = dict(_base_.weight_decay_schedule, final_ratio=2.5)
param_scheduler = [learning_rate_schedule, weight_decay_schedule]
train_cfg = dict(max_epochs=32, val_interval=8)
default_hooks = dict(
    temperature=dict(temperature=(0.01, 0.02), patch_temperature=(0.02, 0.03), warmup_epochs=20),
    prototypes=dict(epochs=2),
    teacher=dict(momentum=0.98),
    checkpoint=dict(interval=16),
    logger=dict(interval=46),
    progress=dict(type='ibot_mm.ProgressBarHook'),
)
