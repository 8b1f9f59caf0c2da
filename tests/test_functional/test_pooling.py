# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch

from ibot_mm.functional.pooling import generalized_mean, multi_scale_features, pool_tokens


@pytest.mark.parametrize(
    'pooling, width', [('cls', 2 + 3), ('patch_mean', 3), ('cls_patch_mean', 2 + 3 + 3)]
)
def test_pooling_of_blocks_that_differ(pooling, width):
    blocks = [torch.randn(4, 1 + 9, 2), torch.randn(4, 1 + 5, 3)]
    features = pool_tokens(blocks, pooling)
    assert features.shape == (4, width)
    if pooling != 'patch_mean':
        assert torch.equal(features[:, :5], torch.cat([b[:, 0] for b in blocks], dim=1))
    if pooling != 'cls':
        torch.testing.assert_close(features[:, -3:], blocks[-1][:, 1:].mean(dim=1))


def test_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling must be one of .*'cls_patch_mean'.* got 'max'"):
        pool_tokens([torch.zeros(1, 2, 3)], 'max')


def test_generalized_mean():
    patches = torch.tensor([[[1.0, -5.0], [3.0, 2.0]]])
    expected = torch.tensor([[((1 + 81) / 2) ** 0.25, (16 / 2) ** 0.25]])
    torch.testing.assert_close(generalized_mean(patches), expected)


def test_scales_round_sizes_down_and_count_alike():
    sizes = []

    def extract(images):
        sizes.append(tuple(images.shape[-2:]))
        return images.mean(dim=(2, 3)) * len(sizes)

    images = torch.ones(1, 3, 36, 67) * torch.tensor([1.0, 2.0, 2.0])[:, None, None]
    features = multi_scale_features(extract, images)
    assert sizes == [(36, 67), (25, 47), (18, 33)]
    torch.testing.assert_close(features, torch.tensor([[1 / 3, 2 / 3, 2 / 3]]))
