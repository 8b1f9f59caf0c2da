# Views of ImageNet and repeated augmentation: an epoch has every image three times, and a third of
# the images.
_base_ = ['imagenet_cls.py']

train_dataloader = dict(
    batch_size=96,  # x 8 GPUs = 768
    drop_last=True,
    sampler=dict(_delete_=True, type='ibot_mm.RepeatedAugmentationSampler', seed=0),
)
