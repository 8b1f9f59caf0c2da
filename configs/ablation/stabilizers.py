# What keeps the targets from collapsing. A collapsed arm is a result.
#     python tools/ablate.py configs/ablation/stabilizers.py --seeds 5 \
#         --out work_dirs/ablation/stabilizers
base = '../pretrain/ibot_vit_demo.py'
evaluation = dict(scenes='data/demo/ade')

uncentered = dict(centering='none', patch_centering='none')
# The teacher's temperatures are the student's, from the first step.
same = ['{model.head.student_temperature}'] * 2
unsharpened = dict(temperature=dict(temperature=same, patch_temperature=same))
arms = dict(
    full=dict(description='iBOT: moving mean, sharpening, slow teacher, multi-crop.', delta=dict()),
    no_centering=dict(
        description='Targets are not centered.', delta=dict(model=dict(head=uncentered))
    ),
    sinkhorn=dict(
        description='Sinkhorn-Knopp over the batch in place of the moving mean.',
        delta=dict(model=dict(head=dict(centering='sinkhorn', patch_centering='sinkhorn'))),
    ),
    no_sharpening=dict(
        description="The teacher's temperatures are the student's.",
        delta=dict(default_hooks=unsharpened),
    ),
    no_centering_no_sharpening=dict(
        description='Neither of the two.',
        delta=dict(model=dict(head=uncentered), default_hooks=unsharpened),
    ),
    momentum_0=dict(
        description='The teacher is the student of the last step.',
        delta=dict(default_hooks=dict(teacher=dict(momentum=0.0, final_momentum=0.0,
                                                   memory_share=None))),
    ),
    no_multi_crop=dict(
        description='No local crops: the same images, fewer crops of each.',
        delta=dict(train_dataloader=dict(dataset=dict(pipeline=dict(crops=dict(num_local_crops=0))))),
    ),
)  # fmt: skip
