# Mask R-CNN, DINOv2 with registers, ViT-B/14 as trained, 12 epochs. The strides of all levels are
# 14/16 of the usual ones; no published result.
_base_ = ['mask_rcnn_vitb16_dinov2_1x_coco.py']

strides = [3.5, 7, 14, 28, 56]
roi_extractor = dict(featmap_strides=[3.5, 7, 14, 28], finest_scale=49)
model = dict(
    data_preprocessor=dict(pad_size_divisor=28),
    backbone=dict(patch_size=14, img_size=(672, 1092)),
    rpn_head=dict(anchor_generator=dict(strides=strides)),
    roi_head=dict(bbox_roi_extractor=roi_extractor, mask_roi_extractor=roi_extractor),
)
