# Mask R-CNN in the form of ViTDet on the demo data, for two CPU cores and some minutes; see
# mask_rcnn_vit_demo.py. From patches of 8 pixels, SimplePyramid makes strides 2 to 32.
_base_ = [
    '../_base_/models/vit_demo.py',
    '../_base_/models/mask_rcnn_vitdet.py',
    '../_base_/datasets/coco_demo.py',
    '../_base_/schedules/coco_demo.py',
]

strides = [2, 4, 8, 16, 32]
model = dict(
    backbone=dict(**_base_.demo_backbone, window_size=4, global_indices=[1, 3]),
    neck=dict(in_channels=96, out_channels=64),
    rpn_head=dict(
        in_channels=64, feat_channels=64, anchor_generator=dict(scales=[8], strides=strides)
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, featmap_strides=strides[:4]),
        bbox_head=dict(in_channels=64, conv_out_channels=64, fc_out_channels=256, num_classes=10),
        mask_roi_extractor=dict(out_channels=64, featmap_strides=strides[:4]),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, num_classes=10),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200), rcnn=dict(sampler=dict(num=128))
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=100), rcnn=dict(max_per_img=40)),
)
