# Mask R-CNN, ViT-B/16, 36 epochs; no published result.
_base_ = ['mask_rcnn_vitb16_1x_coco.py']

train_cfg = dict(max_epochs=36)
decay = dict(_base_.decay, end=36, milestones=[27, 33])
param_scheduler = [_base_.warmup, decay]
