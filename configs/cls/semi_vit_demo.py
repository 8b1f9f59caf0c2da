# finetune_vit_demo.py from the first layer of the projection head.
_base_ = ['finetune_vit_demo.py']

model = dict(
    neck=dict(
        type='ibot_mm.ProjectionLayers',
        num_layers=1,
        neck=dict(
            type='ibot_mm.IBOTNeck',
            in_channels=96,
            num_prototypes=256,
            hidden_channels=256,
            bottleneck_channels=64,
        ),
        init_cfg=dict(
            type='ibot_mm.PretrainedHead', checkpoint='work_dirs/ibot_vit_demo/epoch_32.pth'
        ),
    ),
    head=dict(in_channels=256),
)
