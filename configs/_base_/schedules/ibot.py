# What all published iBOT recipes share, with the numbers of ViT-S/16.
#
# Learning rates are written for 1024 images a step (the paper counts its rate by 256 of them).
# mmengine scales them to the batch that really runs, batch_size x processes. With gradient
# accumulation over n iterations, set base_batch_size to 1024 / n.
_base_ = ['../default_runtime.py']

auto_scale_lr = dict(base_batch_size=1024, enable=True)

optim_wrapper = dict(
    type='ibot_mm.PerParameterClipAmpOptimWrapper',
    constructor='ibot_mm.DecayGroupsConstructor',
    optimizer=dict(type='AdamW', lr=5e-4 * 1024 / 256, weight_decay=0.04, fused=True),
    clip_grad=dict(max_norm=3.0),
)
model_wrapper_cfg = dict(  # of several processes
    type='MMDistributedDataParallel',
    broadcast_buffers=False,
    gradient_as_bucket_view=True,  # one copy of the gradients instead of two
)
learning_rate_schedule = dict(
    type='ibot_mm.WarmupCosine',
    param_name='lr',
    final=1e-6,
    warmup=10,
    convert_to_iter_based=True,
)
weight_decay_schedule = dict(  # 0.04 -> 0.4; what starts without decay keeps none
    type='ibot_mm.WarmupCosine',
    param_name='weight_decay',
    final_ratio=10,
    convert_to_iter_based=True,
)
param_scheduler = [learning_rate_schedule, weight_decay_schedule]
train_cfg = dict(type='ibot_mm.EpochBasedTrainLoop', max_epochs=800, val_interval=50)

# default_hooks is a dict, so that a variant states only the number that differs.
default_hooks = dict(
    seed=dict(type='ibot_mm.TrainingSeedHook'),
    same_data=dict(type='ibot_mm.SameDataHook'),
    image_sizes=dict(type='ibot_mm.ImageSizeHook'),
    temperature=dict(
        type='ibot_mm.TeacherTemperatureHook',
        temperature=(0.04, 0.07),
        patch_temperature=(0.04, 0.07),
        warmup_epochs=30,
    ),
    prototypes=dict(type='ibot_mm.FreezePrototypesHook', epochs=1),
    teacher=dict(type='ibot_mm.TeacherUpdateHook', momentum=0.996, final_momentum=1.0),
    runtime_info=dict(type='ibot_mm.DeferredRuntimeInfoHook'),
    skipped_images=dict(type='ibot_mm.SkippedImagesHook'),
    finite_loss=dict(type='ibot_mm.FiniteLossHook'),
    training_log=dict(type='ibot_mm.TrainingLogHook'),
    monitor=dict(type='ibot_mm.MonitorHook'),
    alarm=dict(type='ibot_mm.AlarmHook'),
)
