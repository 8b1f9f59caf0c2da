# The demo's network from existing weights, with new heads: see docs/continue_training.md.
#
# The start is half through its own training, and 16 epochs are some 700 steps: so the rate is
# higher and the momentum lower than where a finished network is to be kept. Features that tell
# images apart need no low temperatures to begin with, as those of the demo's random start do.
_base_ = ['ibot_vit_demo.py', '../_base_/schedules/continuing.py']

model = dict(
    backbone=dict(
        init_cfg=dict(
            _delete_=True,
            type='ibot_mm.Pretrained',
            checkpoint='work_dirs/ibot_vit_demo/epoch_16.pth',
        )
    )
)
optim_wrapper = _base_.continuing.optim_wrapper
optim_wrapper.optimizer.lr = 2e-3
learning_rate_schedule = dict(_base_.learning_rate_schedule, **_base_.continuing.learning_rate)
param_scheduler = [learning_rate_schedule, _base_.weight_decay_schedule]
train_cfg = dict(max_epochs=16, val_interval=4)
default_hooks = _base_.continuing.default_hooks
default_hooks.patch_embedding.epochs = 2
default_hooks.temperature.update(
    temperature=(0.03, 0.03), patch_temperature=(0.04, 0.04), warmup_epochs=8
)
default_hooks.teacher.momentum = 0.98
