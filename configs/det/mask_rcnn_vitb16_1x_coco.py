# Mask R-CNN, ViT-B/16, 12 epochs: mmdet's heads in the recipe of the published Cascade Mask
# R-CNN; no published result.
# Another checkpoint: --cfg-options model.backbone.init_cfg.checkpoint=FILE
_base_ = [
    '../_base_/models/mask_rcnn_vit.py',
    '../_base_/datasets/coco_multi_scale.py',
    '../_base_/schedules/coco_1x.py',
]
