# Fine-tuning the backbone of configs/pretrain/ibot_small_cifar10.py on a tenth of the labels, and
# training it from scratch:
#     python tools/analysis_tools/compare_initialization.py configs/cls/finetune_small_cifar10.py
_base_ = ['finetune_vit_demo.py']

data_root = 'data/cifar10/'
model = dict(
    backbone=dict(
        patch_size=4, init_cfg=dict(checkpoint='work_dirs/ibot_small_cifar10/epoch_36.pth')
    )
)

flip = dict(_delete_=True, type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal')
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        pipeline=dict(flip=flip),
        indices=[*range(0, 20_000, 10)],  # of all classes
    )
)
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=20)  # 800 steps
default_hooks = dict(checkpoint=dict(interval=20), logger=dict(interval=10))
