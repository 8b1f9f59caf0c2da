# Cascade Mask R-CNN on ViT-B/16 as published for iBOT: mmdet's with another backbone and box
# heads of four convolutions and one linear layer, SyncBN and class-specific GIoU loss.
_base_ = ['mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py']

box_heads = [  # a list is replaced as a whole, so each stage is complete
    dict(
        type='ConvFCBBoxHead',
        num_shared_convs=4,
        num_shared_fcs=1,
        in_channels=256,
        conv_out_channels=256,
        fc_out_channels=1024,
        roi_feat_size=7,
        num_classes=80,
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0], target_stds=deviations
        ),
        reg_class_agnostic=False,
        reg_decoded_bbox=True,
        norm_cfg=dict(type='ibot_mm.SyncBN'),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=10.0),
    )
    for deviations in (
        [0.1, 0.1, 0.2, 0.2],
        [0.05, 0.05, 0.1, 0.1],
        [0.033, 0.033, 0.067, 0.067],
    )
]
model = dict(
    backbone=dict(
        _delete_=True,
        type='ibot_mm.ViTPyramid',
        arch='base',
        img_size=(672, 1088),  # of the learned position embedding; images have any size
        drop_path_rate=0.2,
        init_cfg=dict(type='ibot_mm.Pretrained', checkpoint='work_dirs/ibot_vitb16/epoch_400.pth'),
    ),
    neck=dict(in_channels=[768, 768, 768, 768]),
    roi_head=dict(bbox_head=box_heads),
)
