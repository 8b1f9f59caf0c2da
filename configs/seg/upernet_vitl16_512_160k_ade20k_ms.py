# The test of upernet_vitl16_512_160k_ade20k.py at several scales, each also mirrored:
#     python tools/test.py configs/seg/upernet_vitl16_512_160k_ade20k_ms.py CHECKPOINT
_base_ = ['upernet_vitl16_512_160k_ade20k.py']

model = dict(_delete_=True, type='SegTTAModel', module=_base_.model)
test_dataloader = dict(dataset=dict(pipeline=_base_.tta_pipeline))
