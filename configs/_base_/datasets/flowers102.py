# Oxford Flowers: 2040 images for training (train and val), 6149 for the test.
_base_ = ['transfer.py']

# mmpretrain's data sets take lists of steps.
train_pipeline = [_base_.train_pipeline[name] for name in _base_.train_pipeline.order]
test_pipeline = [_base_.test_pipeline[name] for name in _base_.test_pipeline.order]
dataset = dict(_delete_=True, type='mmpretrain.Flowers102', data_root='data/flowers102/')
train_dataloader = dict(dataset=dict(**dataset, split='trainval', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**dataset, split='test', pipeline=test_pipeline))
test_dataloader = val_dataloader
