# timm's ViT-S/16 of DINOv3 (rotary position embedding, four registers) by the recipe of ViT-S/16;
# a model of the first table of docs/timm_families.md can take its place, with its width in
# neck.in_channels and its patch in masks.patch_size. We know of no published result.
_base_ = ['ibot_vits16.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='ibot_mm.TimmVisionTransformer',
        model_name='vit_small_patch16_dinov3',  # pretrained=True starts from its weights
        drop_path_rate=0.1,
    ),
)
