# Fine-tuning ViT-S/16 on iNaturalist 2018. Published: 73.7.
_base_ = ['transfer_vitb16_360e_inat18.py']

init_cfg = dict(checkpoint='work_dirs/ibot_vits16/epoch_800.pth')
model = dict(backbone=dict(arch='small', init_cfg=init_cfg), head=dict(in_channels=384))
optim_wrapper = dict(optimizer=dict(lr=5e-5 * 768 / 512))
