# UperNet on the demo data with attention in windows, which keeps what a patch says about its own
# surroundings; see upernet_vit_demo.py. The pyramid is a neck of its own.
_base_ = ['upernet_vit_demo.py']

model = dict(
    backbone=dict(
        type='ibot_mm.WindowedVisionTransformer',
        window_size=4,  # what the crops of pre-training have
        global_indices=[3],
    ),
    neck=dict(_delete_=True, type='ibot_mm.DeconvPyramid', in_channels=96, stride=8),
)
