# UperNet, DINOv2 with registers, ViT-B/14 as trained, crops of 512 pixels. These and the images of
# the test are padded to whole patches, which keeps maps and labels aligned; no published result.
_base_ = ['upernet_vitb16_dinov2_512_160k_ade20k.py']

model = dict(
    data_preprocessor=dict(size=(518, 518), test_cfg=dict(size_divisor=14)),
    backbone=dict(patch_size=14, img_size=518),
    test_cfg=dict(crop_size=(518, 518), stride=(345, 345)),
)
