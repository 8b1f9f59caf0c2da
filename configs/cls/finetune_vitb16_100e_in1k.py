# Fine-tuning ViT-B/16. Published: 84.0.
_base_ = ['finetune_vits16_200e_in1k.py']

model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='work_dirs/ibot_vitb16/epoch_400.pth'),
    ),
    head=dict(in_channels=768),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65))
train_cfg = dict(max_epochs=100)
