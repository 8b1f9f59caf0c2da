# Some 300 steps on the demo data.
_base_ = ['ade20k_160k.py']

optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_iters=300, val_interval=300)
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = 30
param_scheduler[1].update(begin=30, end=300)
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=15), checkpoint=dict(interval=300))
