# Cascade Mask R-CNN, ViT-B/16, 36 epochs; no published result. (The published file says layer
# decay 0.65, the published recipe 0.75.)
_base_ = ['cascade_mask_rcnn_vitb16_1x_coco.py']

train_cfg = dict(max_epochs=36)
decay = dict(_base_.decay, end=36, milestones=[27, 33])
param_scheduler = [_base_.warmup, decay]
