# Mask R-CNN on ViT-B/16: mmdet's with another backbone. All four maps have the ViT's channels.
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='ibot_mm.ViTPyramid',
        arch='base',
        img_size=(672, 1088),  # of the learned position embedding; images have any size
        drop_path_rate=0.2,
        init_cfg=dict(type='ibot_mm.Pretrained', checkpoint='work_dirs/ibot_vitb16/epoch_400.pth'),
    ),
    neck=dict(in_channels=[768, 768, 768, 768]),
)
