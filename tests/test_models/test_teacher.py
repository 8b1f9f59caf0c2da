# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch

from ibot_mm.models import EMATeacher, IBOTNeck, MaskedVisionTransformer

TINY = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)


def backbone(**kwargs):
    model = MaskedVisionTransformer(**(dict(arch=TINY, img_size=16, patch_size=8) | kwargs))
    model.init_weights()
    return model


def neck(**kwargs):
    return IBOTNeck(
        **(
            dict(in_channels=16, num_prototypes=8, hidden_channels=8, bottleneck_channels=4)
            | kwargs
        )
    )


def test_starts_as_a_copy_and_moves_by_the_momentum():
    student, projection = backbone(), neck(norm_cfg=dict(type='BN1d'))
    teacher = EMATeacher(backbone(mask_token=False), neck(norm_cfg=dict(type='BN1d')))
    teacher.copy_from(student, projection)
    start = {name: t.clone() for name, t in teacher.state_dict().items()}
    for name, tensor in start.items():
        part, name = name.split('.', 1)
        source = student if part == 'backbone' else projection
        assert torch.equal(tensor, source.state_dict()[name])

    with torch.no_grad():
        for p in [*student.parameters(), *projection.parameters()]:
            p.add_(torch.randn_like(p))
    projection.norm.running_mean.add_(1)
    teacher.update(student, projection, momentum=0.9)
    for part, source in (('backbone', student), ('neck', projection)):
        for name, p in getattr(teacher, part).named_parameters():
            expected = 0.9 * start[f'{part}.{name}'] + 0.1 * source.get_parameter(name)
            torch.testing.assert_close(p, expected.detach())
            assert not p.requires_grad
    assert torch.equal(teacher.neck.norm.running_mean, start['neck.norm.running_mean'])


def test_sharing_teacher_starts_from_the_patch_prototypes_and_follows_those_of_cls():
    student, projection = backbone(), neck(shared_head=False)
    teacher = EMATeacher(backbone(mask_token=False), neck())
    teacher.copy_from(student, projection)
    assert torch.equal(teacher.neck.cls_prototypes.weight, projection.patch_prototypes.weight)
    teacher.update(student, projection, momentum=0.0)
    torch.testing.assert_close(teacher.neck.cls_prototypes.weight, projection.cls_prototypes.weight)


def test_separating_teacher_keeps_its_patch_prototypes():
    student, projection = backbone(), neck()
    teacher = EMATeacher(backbone(mask_token=False), neck(shared_head=False))
    teacher.copy_from(student, projection)
    start = teacher.neck.patch_prototypes.weight.clone()
    assert torch.equal(start, projection.cls_prototypes.weight)
    with torch.no_grad():
        projection.cls_prototypes.parametrizations.weight.original1.add_(1)
    teacher.update(student, projection, momentum=0.0)
    assert torch.equal(teacher.neck.patch_prototypes.weight, start)
    assert not torch.equal(teacher.neck.cls_prototypes.weight, start)


@pytest.mark.parametrize(
    'of_teacher',
    [
        dict(patch_size=4),
        dict(arch=TINY | dict(num_layers=3)),
        dict(arch=TINY | dict(embed_dims=32)),
    ],
    ids=['patch size', 'depth', 'width'],
)
def test_shapes_that_differ(of_teacher):
    teacher = EMATeacher(backbone(**of_teacher), neck())
    with pytest.raises(ValueError, match=r"Teacher and student differ: 'backbone\..*Give both"):
        teacher.copy_from(backbone(), neck())


def test_an_mlp_for_patches_on_one_side():
    with_own, without = neck(shared_head=False, shared_mlp=False), neck(shared_head=False)
    for teacher, student in ((with_own, without), (without, with_own)):
        with pytest.raises(ValueError, match='Teacher and student differ: .*patch_layers|MLP'):
            EMATeacher(backbone(mask_token=False), teacher).copy_from(backbone(), student)


@pytest.mark.parametrize('skip', [True, False])
def test_may_leave_out_an_update(skip):
    """By a tensor: the values are those without it, or the old ones, to the last bit."""
    student, projection = backbone(), neck()
    teachers = [EMATeacher(backbone(mask_token=False), neck()) for _ in range(2)]
    for teacher in teachers:
        teacher.copy_from(student, projection)
    with torch.no_grad():
        for p in [*student.parameters(), *projection.parameters()]:
            p.add_(torch.randn_like(p))
    if not skip:
        teachers[0].update(student, projection, 0.996)
    teachers[1].update(student, projection, 0.996, skip=torch.tensor(skip))
    expected, actual = (teacher.state_dict() for teacher in teachers)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
