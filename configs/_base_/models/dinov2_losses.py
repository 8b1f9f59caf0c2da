# The losses of DINOv2 (arXiv 2304.07193, section 4, and its released configs), for those who
# continue from its weights or DINOv3's. Published: a head of their own for patches, Sinkhorn-Knopp
# with three iterations for [CLS] and patches, KoLeo at 0.1 on the [CLS] tokens of the global
# crops, both losses at weight 1, teacher temperatures 0.04 -> 0.07. By judgment: as many
# prototypes as iBOT has, where 65,536 and 131,072 are published for larger batches, since
# Sinkhorn-Knopp spreads the samples of one step over all of them; a bottleneck of 256 for both
# heads, where [CLS] has 384 with ViT-L and ViT-g.
dinov2_losses = dict(
    neck=dict(shared_head=False, shared_mlp=False),
    head=dict(centering='sinkhorn', patch_centering='sinkhorn'),
    regularizers=dict(koleo=dict(type='ibot_mm.KoLeoLoss', weight=0.1)),
)
# Published, too: 8 local crops, and their scales. Masks are iBOT's: 0.1 to 0.5 of the patches of
# every other view.
dinov2_crops = dict(global_crop_scale=(0.32, 1.0), num_local_crops=8, local_crop_scale=(0.05, 0.32))
