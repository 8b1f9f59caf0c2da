# ImageNet-1K for linear probing: crops and flips only.
_base_ = ['imagenet_cls.py']

train_pipeline = dict(crop=dict(interpolation='bilinear'), augment=None, erase=None)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_evaluator = dict(_delete_=True, type='ibot_mm.SweepAccuracy')
test_evaluator = val_evaluator
