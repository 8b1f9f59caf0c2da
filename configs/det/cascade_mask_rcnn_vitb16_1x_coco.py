# Cascade Mask R-CNN, ViT-B/16, 12 epochs. Published: box AP 51.2, mask AP 44.2.
# Another checkpoint: --cfg-options model.backbone.init_cfg.checkpoint=FILE
_base_ = [
    '../_base_/models/cascade_mask_rcnn_vit.py',
    '../_base_/datasets/coco_multi_scale.py',
    '../_base_/schedules/coco_1x.py',
]
