# Mask R-CNN, ViT-S/16, 36 epochs; no published result.
_base_ = ['mask_rcnn_vits16_1x_coco.py']

train_cfg = dict(max_epochs=36)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=36, milestones=[27, 33])
