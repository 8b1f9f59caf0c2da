_base_ = ['mmpretrain::_base_/default_runtime.py']

custom_imports = dict(imports=['ibot_mm.registry'], allow_failed_imports=False)
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(type='ibot_mm.CheckpointHook', interval=1, max_keep_ckpts=2),
    log_history=dict(type='ibot_mm.LogHistoryHook'),
)
randomness = dict(seed=0)
