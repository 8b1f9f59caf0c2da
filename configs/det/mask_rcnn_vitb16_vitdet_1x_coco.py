# Mask R-CNN in the form of ViTDet, ViT-B/16, with the data and schedule of
# mask_rcnn_vitb16_1x_coco.py, to compare the two; no published result.
_base_ = [
    '../_base_/models/mask_rcnn_vitdet.py',
    '../_base_/datasets/coco_multi_scale.py',
    '../_base_/schedules/coco_1x.py',
]
