# Fine-tuning the backbone of configs/pretrain/ibot_small_cifar10.py on a tenth of the labels:
#     python tools/analysis_tools/compare_initialization.py configs/cls/finetune_small_cifar10.py
# trains it from scratch, too.
_base_ = ['finetune_vits16_200e_in1k.py']

data_root = 'data/cifar10/'
model = dict(
    data_preprocessor=dict(num_classes=10),
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384
        ),
        img_size=32,
        patch_size=4,
        drop_path_rate=0.0,
        init_cfg=dict(checkpoint='work_dirs/ibot_small_cifar10/epoch_36.pth'),
    ),
    head=dict(num_classes=10, in_channels=96),
)

train_pipeline = dict(crop=dict(scale=32, crop_ratio_range=(0.25, 1.0)), augment=None, erase=None)
test_pipeline = dict(resize=None, crop=None)
train_dataloader = dict(
    batch_size=50,
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        data_root=data_root,
        pipeline=train_pipeline,
        indices=[*range(0, 20_000, 10)],  # of all classes
    ),
)
val_dataloader = dict(
    num_workers=1, pin_memory=False, dataset=dict(data_root=data_root, pipeline=test_pipeline)
)
test_dataloader = val_dataloader

auto_scale_lr = dict(base_batch_size=50)
optim_wrapper = dict(type='OptimWrapper')
learning_rate_schedule = dict(_base_.learning_rate_schedule, warmup=5)
param_scheduler = [learning_rate_schedule]
train_cfg = dict(max_epochs=40, val_interval=10)
default_hooks = dict(checkpoint=dict(interval=40), logger=dict(interval=10))
