# The test of upernet_vit_demo.py at two scales.
_base_ = ['upernet_vit_demo.py']

model = dict(_delete_=True, type='SegTTAModel', module=_base_.model)
test_dataloader = dict(dataset=dict(pipeline=_base_.tta_pipeline))
