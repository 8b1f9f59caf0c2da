# The published linear probing: 100 epochs, a cosine that falls from epoch to epoch.
_base_ = ['cls.py']

# Rates of the sweep count 256 images, and a step has 1024; mmengine scales them to the batch that
# really runs, batch_size x processes.
auto_scale_lr = dict(base_batch_size=1024, enable=True)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ibot_mm.SweepConstructor',
    optimizer=dict(type='ibot_mm.SweepOptimizer', lr=1024 / 256, momentum=0.9),
)
learning_rate_schedule = dict(type='CosineAnnealingLR', T_max=100, by_epoch=True)
param_scheduler = [learning_rate_schedule]
train_cfg = dict(max_epochs=100)
default_hooks = dict(
    checkpoint=dict(save_best='sweep/top1'),
    best_head=dict(type='ibot_mm.KeepBestHeadHook'),
)
