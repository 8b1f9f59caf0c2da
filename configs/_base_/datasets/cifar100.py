# CIFAR-100, enlarged to 224 pixels by the views of ImageNet.
_base_ = ['transfer.py']

# mmpretrain's data sets take lists of steps.
train_steps = dict(_base_.train_pipeline, load=dict(type='ibot_mm.ReverseChannels'))
test_steps = dict(_base_.test_pipeline, load=dict(type='ibot_mm.ReverseChannels'))
train_pipeline = [train_steps[name] for name in train_steps['order']]
test_pipeline = [test_steps[name] for name in test_steps['order']]
dataset = dict(_delete_=True, type='mmpretrain.CIFAR100', data_root='data/cifar100/')
train_dataloader = dict(dataset=dict(**dataset, split='train', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**dataset, split='test', pipeline=test_pipeline))
test_dataloader = val_dataloader
