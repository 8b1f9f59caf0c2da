# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from ibot_mm.functional import monitors


def one_hot(numbers, num_prototypes=16):
    return torch.nn.functional.one_hot(torch.tensor(numbers), num_prototypes).double()


def orthonormal(num, channels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(num, channels, generator=generator).double())[0]


@pytest.mark.parametrize(
    ('targets', 'entropy', 'divergence', 'in_use'),
    [
        (torch.full((5, 16), 1 / 16), 1.0, 0.0, 16),
        (one_hot([3, 3, 3]), 0.0, math.log(16), 1),
        (one_hot([0, 1, 2, 3]), 0.0, math.log(4), 4),
        (torch.cat([one_hot([0]), one_hot([1])]).mean(0, keepdim=True), 0.25, math.log(8), 2),
    ],
)
def test_targets(targets, entropy, divergence, in_use):
    assert monitors.target_entropy(targets) == pytest.approx(entropy, abs=1e-6)
    assert monitors.mean_target_divergence(targets) == pytest.approx(divergence, abs=1e-6)
    assert monitors.prototypes_in_use(targets) == pytest.approx(in_use, rel=1e-6)


@pytest.mark.parametrize('shape', [(40, 12), (12, 40)])
def test_effective_rank(shape):
    assert monitors.effective_rank(orthonormal(40, 12)) == pytest.approx(12)
    assert monitors.effective_rank(torch.ones(shape)) == pytest.approx(1, abs=1e-4)
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()
    shares = np.linalg.svd(features.numpy(), compute_uv=False)
    shares /= shares.sum()
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert monitors.effective_rank(features) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('alpha', [0.5, 1.0, 2.0])
def test_slope_of_a_power_law(alpha):
    directions = orthonormal(64, 16)
    directions = torch.linalg.qr(directions - directions.mean(dim=0))[0]  # of mean 0
    scales = torch.arange(1, 17).double() ** (-alpha / 2)
    turned = (directions * scales) @ orthonormal(16, 16, seed=1)
    assert monitors.spectrum_slope(turned + 3) == pytest.approx(alpha, rel=1e-9)
    with pytest.raises(ValueError, match='needs 8 features'):
        monitors.spectrum_slope(torch.ones(7, 16))


def blobs(num_images=4, num_patches=36, channels=16, num_kinds=6, noise=0.02):
    """Images of some kinds of patches, far apart."""
    generator = torch.Generator().manual_seed(0)
    kinds = orthonormal(channels, channels)[:num_kinds]
    chosen = torch.arange(num_patches) % num_kinds
    patches = kinds[chosen].repeat(num_images, 1, 1)
    return patches + noise * torch.randn(patches.shape, generator=generator).double()


def test_clusters_are_those_of_another_implementation():
    points = blobs().flatten(0, 1)
    centers, labels = monitors.kmeans(points, 6, generator=torch.Generator().manual_seed(0))
    found = KMeans(6, n_init=10, random_state=0).fit(points.numpy())
    distance = torch.cdist(centers, torch.from_numpy(found.cluster_centers_)).amin(dim=1)
    assert distance.max() < 1e-9
    assert len(set(zip(labels.tolist(), found.labels_.tolist()))) == 6


def test_dense_score_is_the_published_formula():
    """With the clusters and the spectra of other libraries."""
    patches = blobs()
    unit = torch.nn.functional.normalize(patches, dim=-1).numpy()
    points = unit.reshape(-1, unit.shape[-1])

    def radius(group, number):
        labels = KMeans(number, n_init=10, random_state=0).fit_predict(group)
        found = []
        for cluster in (group[labels == n] for n in range(number)):
            values = np.linalg.svd(cluster - cluster.mean(0), compute_uv=False)
            found.append(values.sum() / max(len(cluster) - 1, cluster.shape[1]) ** 0.5)
        return np.mean(found)

    found = KMeans(6, n_init=10, random_state=0).fit(points)
    distances = found.transform(points)
    distances[np.arange(len(points)), found.labels_] = np.inf
    scale = np.linalg.norm(points - points.mean(0), axis=1).mean()
    radii = (radius(points, 6) + np.mean([radius(image, 6) for image in unit])) / 2
    expected = (distances.min(1).mean() - radii) / scale

    generator = torch.Generator().manual_seed(0)
    score = monitors.dense_score(patches, 6, 6, num_places=2000, generator=generator)
    places = torch.randint(36, (2000, 4), generator=generator)
    ranks = [monitors.effective_rank(torch.from_numpy(unit[range(4), p])) for p in places]
    assert score - np.mean(ranks) / 4 == pytest.approx(expected, abs=0.02)


def test_dense_score_falls_as_clusters_blur():
    scores = [
        monitors.dense_score(blobs(noise=noise), 6, generator=torch.Generator().manual_seed(0))
        for noise in (0.02, 0.1, 0.3)
    ]
    assert scores[0] > scores[1] > scores[2]
    with pytest.raises(ValueError, match='fewer than its 200 clusters'):
        monitors.dense_score(blobs(), 200)


def test_equal_points_can_be_clustered():
    centers, labels = monitors.kmeans(torch.ones(10, 4), 3)
    assert centers.shape == (3, 4) and labels.max() < 3
