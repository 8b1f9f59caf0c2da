# Linear probing of ViT-S/16, 45 learning rates in one run. Published: 77.9.
# Another checkpoint: --cfg-options model.backbone.backbone.init_cfg.checkpoint=FILE
_base_ = [
    '../_base_/models/linear_vit_sweep.py',
    '../_base_/datasets/imagenet_linear.py',
    '../_base_/schedules/linear_100e.py',
]
