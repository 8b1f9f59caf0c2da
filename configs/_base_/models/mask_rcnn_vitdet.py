# Mask R-CNN in the form of ViTDet (arXiv 2203.16527): attention in windows, all levels from the
# last map, layer norm in heads with more convolutions. Images are padded to a multiple of 32.
_base_ = ['mask_rcnn_vit.py']

norm_cfg = dict(type='mmpretrain.LN2d', eps=1e-6)
model = dict(
    backbone=dict(
        _delete_=True,
        type='ibot_mm.WindowedVisionTransformer',
        arch='base',
        drop_path_rate=0.1,
        init_cfg=dict(type='ibot_mm.Pretrained', checkpoint='work_dirs/ibot_vitb16/epoch_400.pth'),
    ),
    neck=dict(_delete_=True, type='ibot_mm.SimplePyramid', in_channels=768),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg),
    ),
)
