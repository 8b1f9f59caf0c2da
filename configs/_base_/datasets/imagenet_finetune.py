# ImageNet-1K for fine-tuning, whose published test view is bilinear.
_base_ = ['imagenet_cls.py']

train_dataloader = dict(drop_last=True)
test_pipeline = dict(resize=dict(interpolation='bilinear'))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
