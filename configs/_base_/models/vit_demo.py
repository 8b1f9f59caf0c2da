# What the backbone of configs/pretrain/ibot_vit_demo.py is, for the demos that use it.
demo_backbone = dict(
    arch=dict(_delete_=True, embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
    img_size=32,
    patch_size=8,
    drop_path_rate=0.0,
    init_cfg=dict(checkpoint='work_dirs/ibot_vit_demo/epoch_32.pth'),
)
