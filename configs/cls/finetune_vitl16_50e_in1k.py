# Fine-tuning ViT-L/16, each step in two halves. Published: 84.8.
_base_ = ['finetune_vits16_200e_in1k.py']

model = dict(
    backbone=dict(
        arch='large',
        drop_path_rate=0.4,
        init_cfg=dict(checkpoint='work_dirs/ibot_vitl16/epoch_250.pth'),
    ),
    head=dict(in_channels=1024),
)
train_dataloader = dict(batch_size=64)  # x 8 GPUs x 2 = 1024
optim_wrapper = dict(accumulative_counts=2)
learning_rate_schedule = dict(_base_.learning_rate_schedule, warmup=5, accumulative_counts=2)
param_scheduler = [learning_rate_schedule]
train_cfg = dict(max_epochs=50)
