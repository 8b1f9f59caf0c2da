# ViT-g/14 in shards (docs/scale.md). Published, of DINOv2 (arXiv 2304.07193, tables 16 and 17): the
# architecture (1,536 channels, 40 layers, 24 heads, SwiGLU, patches of 14), layer scale from 1e-5,
# drop path 0.4, local crops of 98 pixels. By judgment: all else. Losses, rate, lengths and clipping
# are those of ViT-L/16 here, 64 GPUs share 1,024 images, and blocks are computed again in the
# backward pass. Nobody has trained it here.
_base_ = ['ibot_vitl16_fsdp.py']

model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=1536, num_layers=40, num_heads=24, feedforward_channels=6144
        ),
        patch_size=14,
        layer_cfgs=dict(ffn_type='swiglu_fused'),
        layer_scale_init_value=1e-5,
        with_cp=True,
    ),
    neck=dict(in_channels=1536),
)
train_dataloader = dict(
    batch_size=16,
    dataset=dict(pipeline=dict(crops=dict(local_crop_size=98), masks=dict(patch_size=14))),
)
