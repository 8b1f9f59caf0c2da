# ADE20K in crops of 640 pixels; see ade20k_512.py.
_base_ = ['mmseg::_base_/datasets/ade20k_640x640.py']

train_dataloader = dict(batch_size=2)  # x 8 GPUs = 16
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='ResizeShortestEdge', scale=short, max_size=10000)
                for short in (640, 640, 640, 800, 960, 1120)
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
