# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import math

import pytest
import torch
import torch.nn.functional as F

from ibot_mm.functional.info_nce import info_nce_loss


@pytest.mark.parametrize('num_views', [2, 3])
def test_equation(num_views):
    features = torch.randn(num_views, 4, 6, dtype=torch.float64)
    expected = []
    for i in range(num_views):
        for b in range(4):
            others = [(j, c) for j in range(num_views) for c in range(4) if (j, c) != (i, b)]
            similar = {
                key: F.cosine_similarity(features[i, b], features[key], dim=0) / 0.1
                for key in others
            }
            total = torch.stack(list(similar.values())).logsumexp(dim=0)
            expected += [total - similar[j, b] for j in range(num_views) if j != i]
    loss = info_nce_loss(features, 0.1)
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_views_that_agree_and_images_that_do_not():
    features = torch.eye(4).repeat(2, 1, 1)
    expected = math.log(1 + 6 * math.exp(-10))
    assert info_nce_loss(features, 0.1) == pytest.approx(expected, rel=1e-3)
    same = torch.ones(2, 4, 3)
    assert info_nce_loss(same, 0.1) == pytest.approx(math.log(7))


@pytest.mark.parametrize('shape', [(1, 4, 3), (2, 1, 3)])
def test_needs_two_of_each(shape):
    with pytest.raises(ValueError, match='two views and two images'):
        info_nce_loss(torch.ones(shape))
