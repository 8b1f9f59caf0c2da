# Mask R-CNN on the demo data with attention in windows, which keeps what a patch says about its own
# surroundings; see mask_rcnn_vit_demo.py. The pyramid is a neck of its own, before FPN.
_base_ = ['mask_rcnn_vit_demo.py']

model = dict(
    backbone=dict(
        type='ibot_mm.WindowedVisionTransformer',
        window_size=4,  # what the crops of pre-training have
        global_indices=[3],
    ),
    neck=[
        dict(type='ibot_mm.DeconvPyramid', in_channels=96, stride=8),
        dict(type='FPN', in_channels=[96, 96, 96, 96], out_channels=64, num_outs=5),
    ],
)
