# What changes of a pre-training from nothing on 2,000 to 100,000 images and one device. Every
# length is a share of the training, so that other numbers of images, batch sizes and epochs need no
# other number. docs/small_data.md says what each is for. Applied by the configs named ibot_small_*.
small_data = dict(
    # Targets from the batch, and images told apart: self-distillation alone is slow to start.
    head=dict(centering='sinkhorn', patch_centering='sinkhorn'),
    regularizers=dict(contrast=dict(type='ibot_mm.InfoNCELoss', temperature=0.1)),
    init=dict(type='Kaiming', layer='Linear', mode='fan_in', nonlinearity='linear'),
    optim_wrapper=dict(
        type='ibot_mm.PerParameterClipOptimWrapper',
        optimizer=dict(lr=1e-3),  # not scaled by the batch
        clip_grad=dict(max_norm=0.3),
    ),
    auto_scale_lr=dict(enable=False, base_batch_size=64),
    learning_rate=dict(warmup=0, warmup_share=0.1),
    weight_decay=dict(final_ratio=2.5),
    default_hooks=dict(
        whitening=dict(type='ibot_mm.WhitenPatchesHook'),
        temperature=dict(
            temperature=(0.02, 0.02), patch_temperature=(0.02, 0.02), warmup_share=0.4
        ),
        prototypes=dict(epochs=0),
        teacher=dict(memory_share=0.02),
        uniform_targets=dict(type='ibot_mm.UniformTargetsHook'),
    ),
)
