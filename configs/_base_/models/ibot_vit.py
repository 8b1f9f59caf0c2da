# iBOT on ViT-S/16: student, projection, losses; the teacher is the student's average.
model = dict(
    type='ibot_mm.IBOT',
    backbone=dict(
        type='ibot_mm.MaskedVisionTransformer',
        arch='small',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
    ),
    neck=dict(
        type='ibot_mm.IBOTNeck',
        in_channels=384,
        num_prototypes=8192,
        hidden_channels=2048,
        bottleneck_channels=256,
        num_layers=3,
        shared_head=True,
        norm_last_layer=False,
    ),
    head=dict(
        type='ibot_mm.IBOTHead',
        num_prototypes=8192,
        student_temperature=0.1,
        center_momentum=0.9,
        patch_center_momentum=0.9,
    ),
    data_preprocessor=dict(
        type='ibot_mm.MultiCropPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
)
