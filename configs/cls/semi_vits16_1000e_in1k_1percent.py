# Fine-tuning ViT-S/16 with 1 % of the labels, from the first layer of the projection head, in the
# recipe of transfer; its rate is constant after the warm-up, as published. Published: 61.9.
# It needs the full checkpoint, twice: --cfg-options model.backbone.init_cfg.checkpoint=FILE
#     model.neck.init_cfg.checkpoint=FILE
# The list of images is SimCLR's: github.com/google-research/simclr, imagenet_subsets/1percent.txt.
_base_ = [
    '../_base_/models/classifier_vit.py',
    '../_base_/datasets/transfer.py',
    '../_base_/schedules/transfer.py',
]

model = dict(
    neck=dict(
        type='ibot_mm.ProjectionLayers',
        num_layers=1,
        neck=dict(
            type='ibot_mm.IBOTNeck',
            in_channels=384,
            num_prototypes=8192,
            hidden_channels=2048,
            bottleneck_channels=256,
            norm_last_layer=False,
        ),
        init_cfg=dict(
            type='ibot_mm.PretrainedHead', checkpoint='work_dirs/ibot_vits16/epoch_800.pth'
        ),
    ),
    head=dict(in_channels=2048, init_cfg=dict(std=0.02)),
)
train_dataloader = dict(
    batch_size=128,  # x 8 GPUs = 1024
    dataset=dict(
        type='ibot_mm.ImageSubset', subset_file='data/imagenet/imagenet_subsets/1percent.txt'
    ),
)
auto_scale_lr = dict(base_batch_size=1024)
optim_wrapper = dict(optimizer=dict(lr=5e-6 * 1024 / 512))
