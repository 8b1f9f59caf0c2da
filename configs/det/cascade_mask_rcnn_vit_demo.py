# Cascade Mask R-CNN on the demo data, for two CPU cores and some minutes; see
# mask_rcnn_vit_demo.py.
_base_ = [
    '../_base_/models/vit_demo.py',
    '../_base_/models/cascade_mask_rcnn_vit.py',
    '../_base_/datasets/coco_demo.py',
    '../_base_/schedules/coco_demo.py',
]

box_heads = [
    dict(head, in_channels=64, conv_out_channels=64, fc_out_channels=256, num_classes=10)
    for head in _base_.box_heads
]
model = dict(
    backbone=dict(**_base_.demo_backbone, out_indices=[0, 1, 2, 3]),
    neck=dict(in_channels=[96, 96, 96, 96], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=box_heads,
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, num_classes=10),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=[
            dict(stage, sampler=dict(stage.sampler, num=128))
            for stage in _base_.model.train_cfg.rcnn
        ],
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=100), rcnn=dict(max_per_img=40)),
)
