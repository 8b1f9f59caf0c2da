# UperNet, ViT-B/16, crops of 640 pixels; settings of the published file, no published result.
_base_ = ['upernet_vitb16_512_160k_ade20k.py']

crop_size = (640, 640)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(img_size=640),
    test_cfg=dict(crop_size=crop_size, stride=(426, 426)),
)
scale = (2560, 640)
train_pipeline = [
    _base_.load_image,
    _base_.load_annotations,
    dict(_base_.random_resize, scale=scale),
    dict(_base_.random_crop, crop_size=crop_size),
    *_base_.flip_and_distort,
    _base_.pack,
]
test_pipeline = [
    _base_.load_image,
    dict(_base_.resize, scale=scale),
    _base_.load_annotations,
    _base_.pack,
]
tta_resizes = [
    dict(type='ResizeShortestEdge', scale=short, max_size=10000)
    for short in (640, 640, 640, 800, 960, 1120)
]
tta_pipeline = [
    _base_.load_image,
    dict(type='TestTimeAug', transforms=[tta_resizes, *_base_.tta_after_resize]),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9), optimizer=dict(lr=3e-5))
