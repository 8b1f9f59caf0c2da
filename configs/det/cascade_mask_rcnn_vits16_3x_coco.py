# Cascade Mask R-CNN, ViT-S/16, 36 epochs; no published result. (The published file says layer
# decay 0.75, the published recipe 0.8.)
_base_ = ['cascade_mask_rcnn_vits16_1x_coco.py']

train_cfg = dict(max_epochs=36)
decay = dict(_base_.decay, end=36, milestones=[27, 33])
param_scheduler = [_base_.warmup, decay]
