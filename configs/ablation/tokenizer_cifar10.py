# The same arms on natural images, by the recipe of small data. They have no masks of classes.
#     python tools/ablate.py configs/ablation/tokenizer_cifar10.py --seeds 3 \
#         --out work_dirs/ablation/tokenizer_cifar10 --cfg-options train_cfg.max_epochs=6
_base_ = ['tokenizer.py']

base = '../pretrain/ibot_small_cifar10.py'
evaluation = dict(scenes=None)
