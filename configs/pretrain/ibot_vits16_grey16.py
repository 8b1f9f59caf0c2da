# ViT-S/16 on gray images of 16 bits, such as those of microscopes, X-ray and thermal cameras, in
# PNG or TIFF; for DICOM set extensions=['.dcm'] of all data sets. See docs/sensors.md. We know of
# no published result.
_base_ = ['ibot_vits16_multispectral.py']

data_root = 'data/grey16/'
load = dict(channels=1, in_range=(0, 65535))
# To be replaced by what tools/dataset_converters/measure_channels.py prints for the images.
model = dict(backbone=dict(in_channels=1), data_preprocessor=dict(mean=[127.5], std=[63.75]))
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=dict(load=load)))
knn_dataset = dict(data_root=data_root, pipeline=dict(load=load))
val_dataloader = dict(dataset=dict(bank=knn_dataset, query=knn_dataset))
test_dataloader = val_dataloader
