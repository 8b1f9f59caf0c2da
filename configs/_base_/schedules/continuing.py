# What changes of a pre-training that starts from existing weights, with new heads, on small data:
# as little as is needed to leave the start's features intact until the heads have found them.
# Applied by the configs named *_continue; docs/continue_training.md says what each number is for.
continuing = dict(
    optim_wrapper=dict(
        constructor='ibot_mm.LayerDecayConstructor',
        paramwise_cfg=dict(layer_decay_rate=0.8),
        optimizer=dict(lr=1e-4),
        clip_grad=dict(max_norm=0.3),
    ),
    learning_rate=dict(  # final_ratio: each layer ends at a share of its own rate
        final=None,
        final_ratio=0.01,
        warmup=3,
    ),
    train_cfg=dict(max_epochs=100, val_interval=10),
    default_hooks=dict(
        start=dict(type='ibot_mm.CompareWithStartHook'),
        patch_embedding=dict(type='ibot_mm.FreezePatchEmbeddingHook', epochs=10),
        temperature=dict(warmup_epochs=10),
        teacher=dict(momentum=0.999),
        finite_loss=dict(type='ibot_mm.SkipBadStepsHook'),
    ),
)
