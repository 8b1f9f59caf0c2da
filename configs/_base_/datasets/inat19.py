# iNaturalist 2019.
_base_ = ['transfer.py']

train_pipeline = dict(
    _base_.train_pipeline, erase=dict(_base_.train_pipeline.erase, erase_prob=0.1)
)
dataset = dict(
    _delete_=True,
    type='ibot_mm.INaturalist',
    data_root='data/inaturalist2019/',
    class_file='train2019.json',
)
train_dataloader = dict(dataset=dict(**dataset, ann_file='train2019.json', pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(**dataset, ann_file='val2019.json', pipeline=_base_.test_pipeline)
)
test_dataloader = val_dataloader
