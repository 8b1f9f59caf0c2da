# DINOv3's ViT-B/16 with Gram anchoring, on one's own images (arXiv 2508.10104, section 4.2, and
# its released configs). Published, of the stage of the 7B model: similarities within an image,
# negative ones kept, weight 2; DINOv2's losses; crops of 256 and 112 pixels without flips;
# momentum 0.999 and weight decay 0.04, both constant. By judgment: the anchor is the start and
# stays, where the published one is an earlier teacher that is replaced three times; it sees the
# crops at their own size, not twice that; rate, layer decay, lengths and clipping are those of
# every config here that continues. The published weight of local crops, which falls to a half, is
# left out.
_base_ = ['ibot_vitb16_continue.py', '../_base_/models/dinov2_losses.py']

start = dict(
    num_registers=4,
    rotary=True,
    layer_scale_init_value=1e-5,
    norm_cfg=dict(type='LN', eps=1e-5),
    init_cfg=dict(type='ibot_mm.Pretrained', checkpoint='dinov3_vitb16_pretrain_lvd1689m.pth'),
)
model = dict(
    **_base_.dinov2_losses,
    backbone=start,
)
model['regularizers']['gram'] = dict(
    type='ibot_mm.GramLoss',
    weight=2.0,
    backbone=dict(
        type='ibot_mm.MaskedVisionTransformer',
        arch='base',
        patch_size=16,
        mask_token=False,
        **start,
    ),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=dict(
            crops=dict(
                _base_.dinov2_crops, global_crop_size=256, local_crop_size=112, flip_prob=0.0
            )
        )
    )
)
weight_decay_schedule = dict(_base_.weight_decay_schedule, final_ratio=1)
param_scheduler = [_base_.learning_rate_schedule, weight_decay_schedule]
default_hooks = dict(teacher=dict(final_momentum=0.999))
