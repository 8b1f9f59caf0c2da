# The published transfer to small data (DeiT's recipe) with the numbers of ViT-B/16 on CIFAR: 1000
# epochs of repeated augmentation. The rate is written for 768 images a step and scaled to the batch
# that really runs; its minimum is about its peak, as published.
_base_ = ['cls.py']

auto_scale_lr = dict(base_batch_size=768, enable=True)
optim_wrapper = dict(
    type='ibot_mm.AmpOptimWrapper',
    constructor='ibot_mm.DecayGroupsConstructor',
    optimizer=dict(type='AdamW', lr=7.5e-6 * 768 / 512, weight_decay=0.05),
)
learning_rate_schedule = dict(
    type='ibot_mm.DelayedWarmupCosine', warmup=5, start=1e-6, final=1e-5, by_epoch=True
)
param_scheduler = [learning_rate_schedule]
train_cfg = dict(max_epochs=1000)
