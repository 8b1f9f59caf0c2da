# ViT-S/16 on images of other sensors; here of 12 bands, 16 bits, in GeoTIFFs such as those of
# Sentinel-2, whose reflectances are 0 to 10000. See docs/sensors.md. The recipe is that of RGB
# without its operations on color; we know of no published result.
_base_ = ['ibot_vits16.py']

data_root = 'data/multispectral/'
channels = 12
load = dict(channels=channels, in_range=(0, 10000), to_float32=True)
# The middle and a quarter of 0 to 255: to be replaced by what
# tools/dataset_converters/measure_channels.py prints for the images.
model = dict(
    backbone=dict(in_channels=channels),
    data_preprocessor=dict(mean=[127.5] * channels, std=[63.75] * channels, to_rgb=False),
)

no_color = dict(saturation=0.0, hue=0.0, gray_prob=0.0, solarize_prob=0.0)
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        pipeline=dict(
            order=['load', 'crops', 'noise', 'augment', 'masks', 'pack'],
            load=load,
            noise=dict(type='ibot_mm.GaussianNoise'),
            augment=dict(global_first=no_color, global_rest=no_color, local=no_color),
        ),
    )
)

knn_pipeline = dict(
    load=load, resize=dict(_delete_=True, type='ibot_mm.ResizeShortEdge', scale=256)
)
val_dataloader = dict(
    dataset=dict(
        bank=dict(data_root=data_root, pipeline=knn_pipeline),
        query=dict(data_root=data_root, pipeline=knn_pipeline),
    )
)
test_dataloader = val_dataloader
