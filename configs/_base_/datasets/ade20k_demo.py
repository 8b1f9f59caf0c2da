# The demo data's scenes in ADE20K's format: notes full of digits in images of 128 x 160, each digit
# a class, and one class for what is not a note.
_base_ = ['mmseg::_base_/datasets/ade20k.py']

data_root = 'data/demo/ade/'
classes = (
    'zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'background'
)  # fmt: skip
palette = [
    [31, 119, 180], [255, 127, 14], [44, 160, 44], [214, 39, 40], [148, 103, 189], [140, 86, 75],
    [227, 119, 194], [240, 240, 80], [188, 189, 34], [23, 190, 207], [60, 60, 60]
]  # fmt: skip
demo_dataset = dict(
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=dict(classes=classes, palette=palette),
    img_suffix='.jpg',
    seg_map_suffix='.png',
    reduce_zero_label=True,
)
scale, crop_size = (160, 128), (128, 128)
train_pipeline = [  # without flips: a mirrored 2 is not a 2
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=scale, ratio_range=(0.9, 1.2), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(**demo_dataset, pipeline=train_pipeline, indices=60),  # few labeled images
)

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
val_dataloader = dict(num_workers=1, dataset=dict(**demo_dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader

tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='ResizeShortestEdge', scale=s, max_size=1000) for s in (128, 160)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
