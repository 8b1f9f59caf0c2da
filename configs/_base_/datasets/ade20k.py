# ADE20K in crops of 512 pixels, step by step, so that a config can build its own pipelines. Here
# `tta_pipeline` is the published test at several scales: ratios of 0.5 to 1.75, but no short edge
# under 512, each also mirrored.
_base_ = ['mmseg::_base_/datasets/ade20k.py']

load_image = dict(type='LoadImageFromFile')
load_annotations = dict(type='LoadAnnotations', reduce_zero_label=True)
random_resize = dict(
    type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True
)
random_crop = dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75)
flip_and_distort = [dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')]
resize = dict(type='Resize', scale=(2048, 512), keep_ratio=True)
pack = dict(type='PackSegInputs')

train_pipeline = [load_image, load_annotations, random_resize, random_crop, *flip_and_distort, pack]
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))  # x 8 GPUs = 16

tta_after_resize = [
    [
        dict(type='RandomFlip', prob=0.0, direction='horizontal'),
        dict(type='RandomFlip', prob=1.0, direction='horizontal'),
    ],
    [dict(type='LoadAnnotations')],
    [pack],
]
tta_resizes = [
    dict(type='ResizeShortestEdge', scale=short, max_size=10000)
    for short in (512, 512, 512, 640, 768, 896)
]
tta_pipeline = [
    load_image,
    dict(type='TestTimeAug', transforms=[tta_resizes, *tta_after_resize]),
]
