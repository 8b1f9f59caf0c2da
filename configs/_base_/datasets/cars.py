# Stanford Cars. The published code counts classes in a wrong column; here they are the 196 classes.
_base_ = ['transfer.py']

# mmpretrain's data sets take lists of steps.
train_pipeline = [_base_.train_pipeline[name] for name in _base_.train_pipeline.order]
test_pipeline = [_base_.test_pipeline[name] for name in _base_.test_pipeline.order]
dataset = dict(_delete_=True, type='mmpretrain.StanfordCars', data_root='data/stanford_cars/')
train_dataloader = dict(dataset=dict(**dataset, split='train', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**dataset, split='test', pipeline=test_pipeline))
test_dataloader = val_dataloader
