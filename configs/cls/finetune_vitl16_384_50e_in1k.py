# Fine-tuning ViT-L/16 at 384 pixels in the recipe of 224 pixels; no published result. The test
# view is the whole square.
_base_ = ['finetune_vitl16_50e_in1k.py']

size = 384
model = dict(backbone=dict(img_size=size))
train_dataloader = dict(dataset=dict(pipeline=dict(crop=dict(scale=size))))
test_pipeline = dict(resize=dict(scale=size), crop=dict(crop_size=size))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
