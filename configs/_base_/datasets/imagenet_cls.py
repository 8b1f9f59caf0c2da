# ImageNet-1K for classifiers: training images as for fine-tuning, and the published test view.
data_root = 'data/imagenet/'
bgr_mean, bgr_std = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]

# Steps have names, so that a config changes one by its name; None leaves a step out.
train_pipeline = dict(
    order=['load', 'crop', 'flip', 'augment', 'erase', 'pack'],
    load=dict(type='ibot_mm.LoadImage'),
    crop=dict(
        type='mmpretrain.RandomResizedCrop',
        scale=224,
        backend='pillow',
        interpolation='bicubic',
    ),
    flip=dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
    augment=dict(  # rand-m9-mstd0.5-inc1 of timm
        type='mmpretrain.RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
    ),
    erase=dict(
        type='mmpretrain.RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=bgr_mean,
        fill_std=bgr_std,
    ),
    pack=dict(type='mmpretrain.PackInputs'),
)
test_pipeline = dict(
    order=['load', 'resize', 'crop', 'pack'],
    load=dict(type='ibot_mm.LoadImage'),
    resize=dict(
        type='mmpretrain.ResizeEdge',
        scale=256,
        edge='short',
        backend='pillow',
        interpolation='bicubic',
    ),
    crop=dict(type='mmpretrain.CenterCrop', crop_size=224),
    pack=dict(type='mmpretrain.PackInputs'),
)
images = dict(type='ibot_mm.ImageFolder', data_root=data_root, with_label=True)
train_dataloader = dict(
    batch_size=128,  # x 8 GPUs = 1024
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='ibot_mm.stack_samples'),
    dataset=dict(**images, data_prefix='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='ibot_mm.stack_samples'),
    dataset=dict(**images, data_prefix='val', pipeline=test_pipeline),
)
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, 5))
val_cfg = dict()
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict()
