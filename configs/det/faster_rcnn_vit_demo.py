# Faster R-CNN, boxes alone, on the demo data, for two CPU cores and some two minutes; see
# mask_rcnn_vit_demo.py.
_base_ = [
    '../_base_/models/vit_demo.py',
    '../_base_/models/faster_rcnn_vit.py',
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
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200), rcnn=dict(sampler=dict(num=128))
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=100), rcnn=dict(max_per_img=40)),
)
load_boxes = dict(type='LoadAnnotations', with_bbox=True)
train_pipeline = [_base_.load_image, load_boxes, _base_.random_resize, _base_.pack]
test_pipeline = [_base_.load_image, _base_.test_resize, load_boxes, _base_.test_pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
