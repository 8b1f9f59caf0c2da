# iNaturalist 2018.
_base_ = ['transfer.py']

train_pipeline = dict(
    _base_.train_pipeline, erase=dict(_base_.train_pipeline.erase, erase_prob=0.1)
)
dataset = dict(
    _delete_=True,
    type='ibot_mm.INaturalist',
    data_root='data/inaturalist2018/',
    class_file='train2018.json',
)
train_dataloader = dict(dataset=dict(**dataset, ann_file='train2018.json', pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(**dataset, ann_file='val2018.json', pipeline=_base_.test_pipeline)
)
test_dataloader = val_dataloader
