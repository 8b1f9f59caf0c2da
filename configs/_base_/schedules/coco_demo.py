# Some 200 steps on the demo data.
_base_ = ['coco_1x.py']

optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=14, val_interval=14)
warmup = dict(_base_.warmup, end=50)
decay = dict(_base_.decay, end=14, milestones=[10, 13])
param_scheduler = [warmup, decay]
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=15), checkpoint=dict(interval=14))
