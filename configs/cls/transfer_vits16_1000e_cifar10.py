# Fine-tuning ViT-S/16 on CIFAR-10. Published: 99.1.
_base_ = ['transfer_vitb16_1000e_cifar10.py']

init_cfg = dict(checkpoint='work_dirs/ibot_vits16/epoch_800.pth')
model = dict(backbone=dict(arch='small', init_cfg=init_cfg), head=dict(in_channels=384))
