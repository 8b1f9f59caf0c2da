# UperNet on ViT-B/16 as published for iBOT, for crops of 512 pixels: mmseg's for BEiT with another
# backbone and no neck.
_base_ = ['mmseg::_base_/models/upernet_beit.py']

norm_cfg = dict(_delete_=True, type='ibot_mm.SyncBN')
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        _delete_=True,
        type='ibot_mm.ViTPyramid',
        arch='base',
        img_size=512,
        final_norm=True,  # of every map
        drop_path_rate=0.1,
        init_cfg=dict(type='ibot_mm.Pretrained', checkpoint='work_dirs/ibot_vitb16/epoch_400.pth'),
    ),
    neck=None,
    decode_head=dict(norm_cfg=norm_cfg),
    auxiliary_head=dict(norm_cfg=norm_cfg),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
