# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch

from ibot_mm.models import IBOTHead, IBOTNeck


def logits(views=4, images=3, patches=5, num_prototypes=6, num_patch_prototypes=6):
    torch.manual_seed(0)
    return dict(
        student_cls=torch.randn(views, images, num_prototypes),
        student_patch=torch.randn(patches, num_patch_prototypes),
        teacher_cls=torch.randn(2, images, num_prototypes),
        teacher_patch=torch.randn(patches, num_patch_prototypes),
        teacher_patch_mean=torch.randn(num_patch_prototypes),
        patch_weights=torch.rand(patches),
    )


def test_centers_move_after_the_loss():
    head, given = IBOTHead(6, center_momentum=0.9, patch_center_momentum=0.5), logits()
    first, second = head.loss(**given), head.loss(**given)
    assert first['loss_cls'] != second['loss_cls'] and first['loss_patch'] != second['loss_patch']
    expected = given['teacher_cls'].mean(dim=(0, 1)) * (1 - 0.9**2)
    torch.testing.assert_close(head.cls_center, expected)
    torch.testing.assert_close(head.patch_center, given['teacher_patch_mean'] * 0.75)


def test_weights_and_temperatures():
    plain, weighted = IBOTHead(6), IBOTHead(6, cls_weight=2.0, patch_weight=3.0)
    one, other = plain.loss(**logits()), weighted.loss(**logits())
    torch.testing.assert_close(other['loss_cls'], 2 * one['loss_cls'])
    torch.testing.assert_close(other['loss_patch'], 3 * one['loss_patch'])
    weighted.set_temperatures(0.04, 0.07)
    sharper = IBOTHead(6, cls_weight=2.0, patch_weight=3.0).loss(**logits())
    softer = weighted.loss(**logits())
    assert softer['loss_patch'] != sharper['loss_patch']


def test_statistics():
    given = logits()
    given['teacher_cls'][0, 0].fill_(0)
    given['teacher_cls'][0, 0, 2] = 10.0
    given['student_cls'][1] = given['teacher_cls'][0]
    statistics = IBOTHead(6).loss(**given)
    assert statistics['agreement'] == 1
    targets = (given['teacher_cls'] / 0.04).softmax(dim=-1)
    entropy = -torch.special.xlogy(targets, targets).sum(dim=-1).mean()
    torch.testing.assert_close(statistics['teacher_entropy'], entropy)


@pytest.mark.parametrize('precise', [True, False])
@pytest.mark.parametrize('centering', ['sinkhorn', 'mean'])
def test_overflow_of_fp16_under_sinkhorn_is_explained(centering, precise):
    """Prototypes of free gain that have grown; the others cannot overflow."""
    torch.manual_seed(0)
    neck = IBOTNeck(16, 6, hidden_channels=8, bottleneck_channels=4, precise=precise)
    neck.cls_prototypes.parametrizations.weight.original0.data.fill_(6e5)
    head = IBOTHead(6, centering=centering, patch_centering=centering)
    assert head.explain_overflow() == ''
    with torch.autocast('cpu', torch.float16), torch.no_grad():
        cls, patch = neck(torch.randn(6, 1 + 4, 16))
    cls, patch, weights = cls.view(2, 3, 6), patch.flatten(0, 1), torch.ones(24) / 24
    losses = head.loss(cls, patch, cls, patch, patch.mean(dim=0), weights)
    assert losses['loss_cls'].isfinite() == precise
    explained = 'set model.neck.precise=True' in head.explain_overflow()
    assert explained == (centering == 'sinkhorn' and not precise)


def test_one_view():
    with pytest.raises(ValueError, match='needs two views'):
        IBOTHead(6).loss(**logits(views=1))


@pytest.mark.parametrize('where', ['teacher_cls', 'teacher_patch_mean'])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_teacher_that_is_not_finite_leaves_the_centers_and_spoils_the_step(where, value):
    """Also where no loss reads it: at a patch that is not masked, of which the mean knows."""
    head = IBOTHead(6)
    head.loss(**logits())
    centers = {name: buffer.clone() for name, buffer in head.named_buffers()}
    given = logits(patches=0)
    given[where].view(-1)[1] = value
    for name in ('student_cls', 'student_patch'):
        given[name].requires_grad_()
    losses = head.loss(**given)
    torch.testing.assert_close(dict(head.named_buffers()), centers, rtol=0, atol=0)
    (losses['loss_cls'] + losses['loss_patch']).backward()
    assert losses['loss_cls'].isnan() and given['student_cls'].grad.isnan().all()
    head.loss(**logits())
    assert all(buffer.isfinite().all() for buffer in head.buffers())


def test_sinkhorn_centers_each_batch():
    given = logits(images=16, patches=40)
    temperatures = dict(teacher_temperature=0.5, teacher_patch_temperature=0.5)
    head = IBOTHead(6, centering='sinkhorn', patch_centering='sinkhorn', **temperatures)
    first, second = head.loss(**given), head.loss(**given)
    assert first['loss_cls'] == second['loss_cls']  # the moving centers do not change it
    constant = torch.arange(6.0)
    given['teacher_cls'], given['teacher_patch'] = (
        given['teacher_cls'] + constant,
        given['teacher_patch'] + constant,
    )
    shifted = head.loss(**given)
    for name in ('loss_cls', 'loss_patch', 'teacher_entropy'):
        torch.testing.assert_close(shifted[name], first[name])


@pytest.mark.parametrize('kind', ['cls', 'patch'])
def test_each_kind_of_token_has_its_centering(kind):
    """Without a center a shift of all logits by prototype changes the targets of that kind only."""
    name = dict(cls='centering', patch='patch_centering')[kind]
    head = IBOTHead(6, **{name: 'none'})
    head.cls_center += torch.arange(6.0)
    head.patch_center += torch.arange(6.0)
    given = logits()
    without = head.loss(**given)
    plain = IBOTHead(6).loss(**given)  # centers 0
    assert without[f'loss_{kind}'] == plain[f'loss_{kind}']
    other = dict(cls='patch', patch='cls')[kind]
    assert without[f'loss_{other}'] != plain[f'loss_{other}']


@pytest.mark.parametrize('name', ['centering', 'patch_centering'])
def test_unknown_centering(name):
    with pytest.raises(ValueError, match=f"{name} must be one of .*'sinkhorn'.*, got 'median'"):
        IBOTHead(6, **{name: 'median'})
