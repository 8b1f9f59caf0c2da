# ViT-L/16, block masks, 250 epochs. Published: k-NN 78.0, linear 81.0, fine-tuning 84.8.
# Of the published recipe only the epochs and the masks are sure; the rest is that of ViT-B/16
# with more drop path.
_base_ = ['ibot_vitb16.py']

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.4),
    neck=dict(in_channels=1024),
)
train_dataloader = dict(batch_size=32)  # x 32 GPUs = 1024
train_cfg = dict(max_epochs=250)
