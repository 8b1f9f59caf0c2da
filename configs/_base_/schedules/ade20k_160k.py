# 160k iterations of ADE20K in the published recipe, with the numbers of ViT-B/16. `--auto-scale-lr`
# scales the learning rate to another batch than 16.
_base_ = [
    'mmseg::_base_/schedules/schedule_160k.py',
    'mmseg::_base_/default_runtime.py',
]

optim_wrapper = dict(
    _delete_=True,
    type='ibot_mm.AmpOptimWrapper',
    constructor='ibot_mm.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65),
    optimizer=dict(type='AdamW', lr=8e-5, weight_decay=0.05),
)
warmup = dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500)
decay = dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160000)
param_scheduler = [warmup, decay]
auto_scale_lr = dict(enable=False, base_batch_size=16)
train_cfg = dict(type='ibot_mm.IterBasedTrainLoop')
default_hooks = dict(
    checkpoint=dict(type='ibot_mm.CheckpointHook', max_keep_ckpts=2),
    log_history=dict(type='ibot_mm.LogHistoryHook'),
    channels=dict(type='ibot_mm.ChannelCheckHook'),
)
randomness = dict(seed=0)
