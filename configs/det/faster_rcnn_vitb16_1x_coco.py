# Faster R-CNN, ViT-B/16, 12 epochs: boxes alone, in the recipe of the published Cascade Mask
# R-CNN; no published result.
# Another checkpoint: --cfg-options model.backbone.init_cfg.checkpoint=FILE
_base_ = [
    '../_base_/models/faster_rcnn_vit.py',
    '../_base_/datasets/coco_multi_scale.py',
    '../_base_/schedules/coco_1x.py',
]

load_boxes = dict(type='LoadAnnotations', with_bbox=True)
train_pipeline = [_base_.load_image, load_boxes, _base_.flip, _base_.resize_or_crop, _base_.pack]
test_pipeline = [_base_.load_image, _base_.test_resize, load_boxes, _base_.test_pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
