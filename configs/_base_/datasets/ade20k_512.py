# ADE20K in crops of 512 pixels. `tta_pipeline` is the published test at several scales: ratios of
# 0.5 to 1.75, but no short edge under 512, each also mirrored.
_base_ = ['mmseg::_base_/datasets/ade20k.py']

train_dataloader = dict(batch_size=2)  # x 8 GPUs = 16
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='ResizeShortestEdge', scale=short, max_size=10000)
                for short in (512, 512, 512, 640, 768, 896)
            ],
            [
                dict(type='RandomFlip', prob=0.0, direction='horizontal'),
                dict(type='RandomFlip', prob=1.0, direction='horizontal'),
            ],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
