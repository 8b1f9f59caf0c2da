# iBOT on a Swin Transformer. Masks are drawn at the stride of its last stage, 32.
_base_ = ['ibot_vit.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='ibot_mm.MaskedSwinTransformer',
        arch='tiny',
        img_size=224,
        window_size=7,
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels=768),
)
