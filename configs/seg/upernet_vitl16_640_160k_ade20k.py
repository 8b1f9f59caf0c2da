# UperNet, ViT-L/16, crops of 640 pixels; settings of the published file, no published result.
# Published as 320k iterations with one image per GPU, of which two make a step: the same steps.
_base_ = ['upernet_vitb16_640_160k_ade20k.py']

model = dict(
    backbone=dict(
        arch='large',
        out_indices=[7, 11, 15, 23],
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='work_dirs/ibot_vitl16/epoch_250.pth'),
    ),
    decode_head=dict(in_channels=[1024, 1024, 1024, 1024], channels=1024),
    auxiliary_head=dict(in_channels=1024),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.95), optimizer=dict(lr=2e-5))
