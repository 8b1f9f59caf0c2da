# CIFAR-10, enlarged to 224 pixels by the views of ImageNet.
_base_ = ['transfer.py']

# mmpretrain's data sets take lists of steps.
train_steps = dict(_base_.train_pipeline, load=dict(type='ibot_mm.ReverseChannels'))
test_steps = dict(_base_.test_pipeline, load=dict(type='ibot_mm.ReverseChannels'))
train_pipeline = [step for step in train_steps.values()]
test_pipeline = [step for step in test_steps.values()]
dataset = dict(_delete_=True, type='mmpretrain.CIFAR10', data_root='data/cifar10/')
train_dataloader = dict(dataset=dict(**dataset, split='train', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**dataset, split='test', pipeline=test_pipeline))
test_dataloader = val_dataloader
