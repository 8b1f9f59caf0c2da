# The same arms on natural images, by the recipe of small data. They have no masks of classes.
#     python tools/ablate.py configs/ablation/stabilizers_cifar10.py --seeds 3 \
#         --out work_dirs/ablation/stabilizers_cifar10 --cfg-options train_cfg.max_epochs=10
_base_ = ['stabilizers.py']

base = '../pretrain/ibot_small_cifar10.py'
evaluation = dict(scenes=None)
