# Some 200 steps on the demo data.
_base_ = ['coco_1x.py']

optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=14, val_interval=14)
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = 50
param_scheduler[1].update(end=14, milestones=[10, 13])
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=15), checkpoint=dict(interval=14))
