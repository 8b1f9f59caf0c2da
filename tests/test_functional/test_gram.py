# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch

from ibot_mm.functional.gram import gram_loss


def test_only_similarities_count():
    """A rotation, another length of each patch and more channels change nothing."""
    torch.manual_seed(0)
    student = torch.randn(2, 5, 4, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    teacher = (student @ rotation) * torch.rand(2, 5, 1, dtype=torch.float64).add(0.1)
    teacher = torch.cat([teacher, torch.zeros(2, 5, 3, dtype=torch.float64)], dim=2)
    assert gram_loss(student, teacher) < 1e-28
    assert gram_loss(student, teacher[:, torch.randperm(5)]) > 1e-3


@pytest.mark.parametrize(
    'negatives, reversed_pair, opposite_pair',
    [('keep', 2.0, 0.0), ('clip', 0.5, 0.0), ('clip_teacher', 0.5, 0.5)],
)
def test_negative_similarities(negatives, reversed_pair, opposite_pair):
    """Two patches: their similarity is 1 or -1; each image has four entries, two of them 1."""
    same, opposite = torch.ones(1, 2, 1), torch.tensor([[[1.0], [-1.0]]])
    assert gram_loss(same, opposite, negatives=negatives) == reversed_pair
    assert gram_loss(opposite, opposite, negatives=negatives) == opposite_pair


def test_over_the_batch():
    images = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # one patch each
    same = images[:1].expand(2, 1, 2)
    assert gram_loss(same, images) == 0
    assert gram_loss(same, images, within_image=False) == 0.5


@pytest.mark.parametrize(
    'shape, options, message',
    [
        ((2, 4, 3), dict(negatives='drop'), "'clip_teacher'.*, got 'drop'"),
        ((2, 9, 3), {}, r'patches \(2, 4\), the Gram teacher \(2, 9\).*patch size'),
    ],
)
def test_bad_input(shape, options, message):
    with pytest.raises(ValueError, match=message):
        gram_loss(torch.randn(2, 4, 3), torch.randn(shape), **options)
