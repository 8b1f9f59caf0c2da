# What training of all classifiers shares. The best epoch is kept, as published: it is chosen on the
# very images that it is reported for.
_base_ = ['../default_runtime.py']

learning_rate_schedule = dict()
train_cfg = dict(type='ibot_mm.EpochBasedTrainLoop', val_interval=1)
default_hooks = dict(
    checkpoint=dict(save_best='accuracy/top1', rule='greater', max_keep_ckpts=1),
    classes=dict(type='ibot_mm.CheckClassesHook'),
    skipped_images=dict(type='ibot_mm.SkippedImagesHook'),
)
model_wrapper_cfg = dict(type='MMDistributedDataParallel', broadcast_buffers=False)
randomness = dict(seed=0, diff_rank_seed=True)  # every process mixes and augments in its own way
