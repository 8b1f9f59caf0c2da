# UperNet, ViT-S/16, crops of 512 pixels. Published: mIoU 45.4. (The published file says layer
# decay 0.9, the published recipe 0.65.)
_base_ = ['upernet_vitb16_512_160k_ade20k.py']

model = dict(
    backbone=dict(arch='small', init_cfg=dict(checkpoint='work_dirs/ibot_vits16/epoch_800.pth')),
    decode_head=dict(in_channels=[384, 384, 384, 384], channels=384),
    auxiliary_head=dict(in_channels=384),
)
train_dataloader = dict(batch_size=4)  # x 4 GPUs = 16
optim_wrapper = dict(optimizer=dict(lr=3e-5))
