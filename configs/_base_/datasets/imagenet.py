# ImageNet-1K for pre-training, with the crops of ViT-S/16, and k-NN on its labels.
data_root = 'data/imagenet/'

# Steps have names, so that a config changes one by its name; None leaves a step out. Labels are
# not read: any folder of images will do, with or without sub-folders.
train_pipeline = dict(
    order=['load', 'crops', 'augment', 'masks', 'pack'],
    load=dict(type='ibot_mm.LoadImage'),
    crops=dict(
        type='ibot_mm.MultiCrop',
        num_global_crops=2,
        global_crop_size=224,
        global_crop_scale=(0.25, 1.0),
        num_local_crops=10,
        local_crop_size=96,
        local_crop_scale=(0.05, 0.25),
    ),
    augment=dict(type='ibot_mm.PhotometricAugmentation'),  # apply=True: by the workers
    masks=dict(
        type='ibot_mm.MaskGenerator',
        patch_size=16,
        ratio=[(0.0, 0.0), (0.3, 0.2)],
        shape='block',
    ),
    pack=dict(type='ibot_mm.PackMultiCrop'),
)
train_dataloader = dict(
    batch_size=128,  # x 8 GPUs = 1024
    num_workers=12,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='ibot_mm.SeededBatchSampler', drop_last=True),
    collate_fn=dict(type='ibot_mm.stack_samples'),
    dataset=dict(
        type='ibot_mm.ImageFolder',
        data_root=data_root,
        data_prefix='train',
        with_label=False,
        pipeline=train_pipeline,
    ),
)

# k-NN: the training images vote for the class of the validation images.
knn_pipeline = dict(
    order=['load', 'resize', 'crop', 'pack'],
    load=dict(type='ibot_mm.LoadImage'),  # as in training: EXIF orientation is ignored
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
val_dataloader = dict(
    batch_size=128,
    num_workers=12,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='ibot_mm.stack_samples'),
    dataset=dict(
        type='ibot_mm.KNNSplits',
        bank=dict(
            type='ibot_mm.ImageFolder',
            data_root=data_root,
            data_prefix='train',
            with_label=True,
            pipeline=knn_pipeline,
        ),
        query=dict(
            type='ibot_mm.ImageFolder',
            data_root=data_root,
            data_prefix='val',
            with_label=True,
            pipeline=knn_pipeline,
        ),
    ),
)
val_evaluator = dict(type='ibot_mm.KNNAccuracy', ks=(10, 20, 100, 200), temperature=0.07)
val_cfg = dict()
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict()
