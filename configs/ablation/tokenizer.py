# What gives the targets of masked patches: is it the online tokenizer?
#     python tools/ablate.py configs/ablation/tokenizer.py --seeds 5 \
#         --out work_dirs/ablation/tokenizer
#
# Each arm changes the base as told by its delta; '{...}' and _like_ name parts of the base. All
# see the same number of images. What is trained before is stated in the report.
base = '../pretrain/ibot_vit_demo.py'
evaluation = dict(scenes='data/demo/ade')

prepared = '{prepared}'
untrained = dict(
    backbone=dict(_like_='model.backbone', mask_token=False, drop_path_rate=0.0),
    neck=dict(_like_='model.neck'),
)
arms = dict(
    online=dict(description='iBOT: the teacher.', delta=dict()),
    frozen=dict(
        description='The teacher of a finished pre-training, with its head, frozen.',
        prepare=dict(type='pretrain', seed=1000),
        delta=dict(
            model=dict(
                tokenizer=dict(
                    type='ibot_mm.FrozenTokenizer',
                    backbone=dict(
                        **untrained['backbone'],
                        init_cfg=dict(type='ibot_mm.Pretrained', checkpoint=prepared),
                    ),
                    neck=dict(
                        **untrained['neck'],
                        init_cfg=dict(type='ibot_mm.PretrainedHead', checkpoint=prepared),
                    ),
                )
            )
        ),
    ),
    random=dict(
        description='A network and head as each seed starts them, frozen.',
        delta=dict(model=dict(tokenizer=dict(type='ibot_mm.RandomTokenizer', **untrained))),
    ),
    clusters=dict(
        description='Clusters of pixels, as many as prototypes.',
        prepare=dict(type='fit_clusters', num_patches=100_000),
        delta=dict(
            model=dict(
                tokenizer=dict(
                    type='ibot_mm.ClusterTokenizer',
                    num_tokens='{model.head.num_prototypes}',
                    patch_size='{model.backbone.patch_size}',
                    clusters=prepared,
                ),
                head=dict(patch_centering='none'),
            )
        ),
    ),
    none=dict(
        description='No patch loss and no masks: DINO.',
        delta=dict(
            model=dict(head=dict(patch_weight=0.0)),
            train_dataloader=dict(dataset=dict(pipeline=dict(masks=dict(ratio=[(0.0, 0.0)])))),
        ),
    ),
    patch_only=dict(
        description='The patch loss alone: nothing trains [CLS].',
        delta=dict(model=dict(head=dict(cls_weight=0.0))),
    ),
)
