# ViT-S/16 from existing weights (published iBOT, DINO, timm, DeiT, ...) on one's own images, by a
# recipe that is judgment, not measured: docs/continue_training.md.
_base_ = ['ibot_vits16.py', '../_base_/schedules/continuing.py']

model = dict(
    backbone=dict(init_cfg=dict(type='ibot_mm.Pretrained', checkpoint='pretrained.pth')),
    neck=dict(norm_last_layer=True),
)
train_dataloader = dict(batch_size=64)
auto_scale_lr = dict(base_batch_size=256)
optim_wrapper = _base_.continuing.optim_wrapper
learning_rate_schedule = dict(_base_.learning_rate_schedule, **_base_.continuing.learning_rate)
param_scheduler = [learning_rate_schedule, _base_.weight_decay_schedule]
train_cfg = _base_.continuing.train_cfg
default_hooks = _base_.continuing.default_hooks
