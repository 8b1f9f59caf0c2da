# 12 epochs of COCO in the published recipe, with the numbers of ViT-B/16. `--auto-scale-lr`
# scales the learning rate to another batch than 16.
_base_ = [
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]

optim_wrapper = dict(
    _delete_=True,
    type='ibot_mm.AmpOptimWrapper',  # fp16: mmcv's operators do not know bf16
    constructor='ibot_mm.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.75),
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
)
train_cfg = dict(type='ibot_mm.EpochBasedTrainLoop')
warmup = dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500)
decay = dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1)
param_scheduler = [warmup, decay]
default_hooks = dict(
    checkpoint=dict(type='ibot_mm.CheckpointHook', max_keep_ckpts=2),
    log_history=dict(type='ibot_mm.LogHistoryHook'),
    channels=dict(type='ibot_mm.ChannelCheckHook'),
)
randomness = dict(seed=0)
