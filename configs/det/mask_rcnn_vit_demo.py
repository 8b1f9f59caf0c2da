# Mask R-CNN on the demo data, for two CPU cores and some two minutes, with the backbone that
# configs/pretrain/ibot_vit_demo.py trains. From scratch: --cfg-options model.backbone.init_cfg=None
_base_ = [
    '../_base_/models/vit_demo.py',
    '../_base_/models/mask_rcnn_vit.py',
    '../_base_/datasets/coco_demo.py',
    '../_base_/schedules/coco_demo.py',
]

model = dict(
    backbone=dict(**_base_.demo_backbone, out_indices=[0, 1, 2, 3]),
    neck=dict(in_channels=[96, 96, 96, 96], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=10),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, num_classes=10),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200), rcnn=dict(sampler=dict(num=128))
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=100), rcnn=dict(max_per_img=40)),
)
