# Some 300 steps on the demo data.
_base_ = ['ade20k_160k.py']

optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_iters=300, val_interval=300)
warmup = dict(_base_.warmup, end=30)
decay = dict(_base_.decay, begin=30, end=300)
param_scheduler = [warmup, decay]
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=15), checkpoint=dict(interval=300))
