# The demo data's scenes in COCO's format: notes full of digits in images of 128 x 160.
_base_ = ['mmdet::_base_/datasets/coco_instance.py']

data_root = 'data/demo/coco/'
metainfo = dict(
    classes=('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
)
scale = (160, 128)
load_image = dict(type='LoadImageFromFile')
load_annotations = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
random_resize = dict(type='RandomResize', scale=scale, ratio_range=(0.9, 1.2), keep_ratio=True)
pack = dict(type='PackDetInputs')
train_pipeline = [load_image, load_annotations, random_resize, pack]  # a mirrored 2 is not a 2
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(
        metainfo=metainfo,
        data_root=data_root,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=0),
        pipeline=train_pipeline,
        indices=60,  # few labeled images
    ),
)

test_resize = dict(type='Resize', scale=scale, keep_ratio=True)
test_pack = dict(
    type='PackDetInputs',
    meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
)
test_pipeline = [load_image, test_resize, load_annotations, test_pack]
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        metainfo=metainfo,
        data_root=data_root,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
