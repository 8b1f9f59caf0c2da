# COCO instances for training at several scales, half of the images after a crop, as published.
# Steps have names, so that a config can build a pipeline of its own.
_base_ = ['mmdet::_base_/datasets/coco_instance.py']

load_image = dict(type='LoadImageFromFile')
load_annotations = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
flip = dict(type='RandomFlip', prob=0.5)
resize = dict(
    type='RandomChoiceResize',
    scales=[(short, 1333) for short in range(480, 801, 32)],
    keep_ratio=True,
)
resize_before_crop = dict(
    type='RandomChoiceResize',
    scales=[(400, 1333), (500, 1333), (600, 1333)],
    keep_ratio=True,
)
crop = dict(
    type='RandomCrop',
    crop_type='absolute_range',
    crop_size=(384, 600),
    allow_negative_crop=True,
)
resize_or_crop = dict(
    type='RandomChoice', transforms=[[resize], [resize_before_crop, crop, resize]]
)
pack = dict(type='PackDetInputs')

train_pipeline = [load_image, load_annotations, flip, resize_or_crop, pack]
train_dataloader = dict(
    batch_size=2,  # x 8 GPUs = 16
    num_workers=4,
    dataset=dict(pipeline=train_pipeline),
)

test_resize = dict(type='Resize', scale=(1333, 800), keep_ratio=True)
test_pack = dict(
    type='PackDetInputs',
    meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
)
test_pipeline = [load_image, test_resize, load_annotations, test_pack]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
