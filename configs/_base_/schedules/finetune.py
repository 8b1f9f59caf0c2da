# The published fine-tuning (BEiT's), with the numbers of ViT-S/16. The peak rate is the best of
# 8e-4, 9e-4, 1e-3 and 2e-3 in the paper; it is not scaled by the batch.
_base_ = ['cls.py']

lr, min_lr = 1e-3, 1e-6
auto_scale_lr = dict(base_batch_size=1024, enable=False)
optim_wrapper = dict(
    type='ibot_mm.AmpOptimWrapper',
    constructor='ibot_mm.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.75, undecayed=('cls_token', 'pos_embed')),
    optimizer=dict(type='AdamW', lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
)
learning_rate_schedule = dict(
    type='ibot_mm.WarmupCosineByUpdate',
    param_name='lr',
    final_ratio=min_lr / lr,  # of each group's own peak
    warmup=20,
    convert_to_iter_based=True,
)
param_scheduler = [learning_rate_schedule]
train_cfg = dict(max_epochs=200)
