# Linear probing of Swin-T with windows of 7: the means of the last four blocks, which span two
# stages. Published: 78.6.
_base_ = ['linear_vits16_100e_in1k.py']

model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='ibot_mm.MaskedSwinTransformer',
            arch='tiny',
            img_size=224,
            window_size=7,
            mask_token=False,
            init_cfg=dict(
                type='ibot_mm.Pretrained', checkpoint='work_dirs/ibot_swint_w7/epoch_300.pth'
            ),
        ),
    ),
    head=dict(in_channels=2 * 384 + 2 * 768),
)
