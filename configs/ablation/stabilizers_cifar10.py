# The same question on natural images, by the recipe of small data: it centers by Sinkhorn, has no
# local crops, and tells images apart besides. They have no masks of classes.
#     python tools/ablate.py configs/ablation/stabilizers_cifar10.py --seeds 3 \
#         --out work_dirs/ablation/stabilizers_cifar10 --cfg-options train_cfg.max_epochs=6
_base_ = ['stabilizers.py']

base = '../pretrain/ibot_small_cifar10.py'
evaluation = dict(scenes=None)
moving_mean = dict(
    centering='mean', patch_centering='mean', center_momentum=0.5, patch_center_momentum=0.5
)
arms = dict(
    _delete_=True,
    full=dict(description='The recipe of small data.', delta=dict()),
    no_contrast=dict(
        description='Nothing tells images apart but their targets.',
        delta=dict(model=dict(regularizers=None)),
    ),
    no_whitening=dict(
        description='The patch embedding starts at random.',
        delta=dict(default_hooks=dict(whitening=None)),
    ),
    moving_mean=dict(
        description='A moving mean in place of Sinkhorn-Knopp.',
        delta=dict(model=dict(head=moving_mean)),
    ),
    no_centering=_base_.arms.no_centering,
    no_sharpening=_base_.arms.no_sharpening,
    no_centering_no_sharpening=_base_.arms.no_centering_no_sharpening,
    momentum_0=_base_.arms.momentum_0,
)
