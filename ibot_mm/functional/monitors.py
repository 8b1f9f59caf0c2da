# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Numbers that tell, without labels, what a training does: of its targets and of its features."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

FIRST_EIGENVALUE = 2  # of the slope; the largest alone is often that of the mean
LARGEST_SHARE = 0.5  # of the spectrum that the slope reads: a sample's tail falls off by itself


def target_entropy(targets: Tensor) -> Tensor:
    """Compute the mean entropy of targets as a share of ln K: 1 is uniform, 0 one prototype each.

    Args:
        targets: Probabilities, shape (N, K).
    """
    return torch.special.entr(targets).sum(dim=1).mean() / math.log(targets.shape[1])


def mean_target_divergence(targets: Tensor) -> Tensor:
    """Compute the divergence KL(mean target || uniform), in nats: 0 where all are used alike.

    N targets that have one prototype each cannot come below ln(K / N).

    Args:
        targets: Probabilities, shape (N, K).
    """
    mean = targets.mean(dim=0)
    return math.log(targets.shape[1]) - torch.special.entr(mean).sum()


def prototypes_in_use(targets: Tensor) -> Tensor:
    """Compute how many prototypes the targets share, exp of the entropy of their mean: 1 to K.

    Args:
        targets: Probabilities, shape (N, K).
    """
    return torch.special.entr(targets.mean(dim=0)).sum().exp()


def effective_rank(features: Tensor) -> Tensor:
    """Compute RankMe: exp of the entropy of the singular values, each as a share of their sum.

    1 where all features are multiples of one, at most the smaller of N and D. Source:
    arXiv 2210.02885, equations 1 and 2. It depends on N: compare samples of one size.

    Args:
        features: Not centered, shape (N, D).
    """
    shares = _singular_values(features)
    shares = shares / shares.sum().clamp(min=1e-30)
    return torch.special.entr(shares).sum().exp()


def spectrum_slope(features: Tensor) -> Tensor:
    """Compute alpha-ReQ: the exponent by which the eigenvalues of the covariance fall.

    Eigenvalue i is about i ** -alpha; alpha near 1 is said to be best (Agrawal et al., NeurIPS
    2022). The line through the logarithms is fitted by least squares, from the second eigenvalue
    to half of all that the sample can have.

    Args:
        features: Shape (N, D), N and D of 8 or more.

    Raises:
        ValueError: If the sample is smaller.
    """
    if min(features.shape) < 8:
        raise ValueError(f'spectrum_slope needs 8 features of 8 channels, got {features.shape}')
    centered = features - features.mean(dim=0)
    eigenvalues = _singular_values(centered).square()
    last = int(LARGEST_SHARE * min(len(features) - 1, features.shape[1]))
    index = torch.arange(FIRST_EIGENVALUE, last + 1, device=features.device)
    x = index.to(eigenvalues).log()
    y = eigenvalues[index - 1].clamp(min=1e-30).log()
    return -((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()


def dense_score(
    patches: Tensor,
    num_clusters: int = 24,
    num_clusters_per_image: int = 3,
    num_places: int = 8,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Compute DSE, which estimates how well patch features segment (arXiv 2510.17299, section 4).

    Separation of k-means clusters, less their radius, plus the effective dimension:

    - separation: mean distance of a patch to the nearest center that is not its own, clusters
      of all images;
    - radius: nuclear norm of a cluster's centered patches by the root of the larger of D and their
      number less one, mean over clusters; once for clusters of all images, once within each, halved
      together;
    - dimension: :func:`effective_rank` of one random patch of each image, as a share of the largest
      possible.

    Distances are in units of the patches' mean distance to their mean. The paper weighs the
    dimension by the ratio of standard deviations over all checkpoints compared; here the weight
    is 1, as in its code for one checkpoint. The paper clusters groups of eight images.

    Args:
        patches: Shape (B, N, D). They are normalized here, as in the paper's runs.
        num_clusters: Of all images together. Defaults to 24.
        num_clusters_per_image: Defaults to 3.
        num_places: Samples of one patch per image that the dimension is the mean of. Defaults to 8.
        generator: Of places and of the start of k-means. Defaults to None, torch's own.

    Returns:
        Scalar; larger is better.

    Raises:
        ValueError: If there are fewer patches than clusters.
    """
    num_images, num_patches, channels = patches.shape
    if num_patches < num_clusters_per_image or num_images * num_patches < num_clusters:
        raise ValueError(
            f'dense_score of {num_images} x {num_patches} patches: fewer than its '
            f'{num_clusters} clusters, or than {num_clusters_per_image} in an image'
        )
    patches = F.normalize(patches.to(torch.promote_types(patches.dtype, torch.float32)), dim=-1)
    points = patches.flatten(0, 1)
    scale = (points - points.mean(dim=0)).norm(dim=1).mean().clamp(min=1e-12)

    centers, labels = kmeans(points, num_clusters, generator=generator)
    distances = torch.cdist(points, centers)
    distances.scatter_(1, labels[:, None], float('inf'))
    separation = distances.amin(dim=1).mean()
    radius = _mean_radius(points, labels, num_clusters)
    radii = []
    for image in patches:
        _, labels = kmeans(image, num_clusters_per_image, generator=generator)
        radii.append(_mean_radius(image, labels, num_clusters_per_image))
    radius_in_image = torch.stack(radii).mean()

    places = torch.rand(num_places, num_images, generator=generator) * num_patches
    rows = torch.arange(num_images, device=patches.device)
    ranks = [effective_rank(patches[rows, p]) for p in places.long().to(patches.device)]
    dimension = torch.stack(ranks).mean() / min(num_images, channels)
    return (separation - (radius + radius_in_image) / 2) / scale + dimension


def kmeans(
    points: Tensor, num_clusters: int, num_steps: int = 20, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Cluster some hundreds or thousands of points by Lloyd's steps from a k-means++ start.

    Args:
        points: Shape (N, D), N of ``num_clusters`` or more.
        num_clusters: Number of clusters.
        num_steps: At most. Defaults to 20.
        generator: Of the start. Defaults to None, torch's own.

    Returns:
        Centers (num_clusters, D) and the number of each point's center (N,). A center that loses
        all its points stays where it was.
    """
    first = int(torch.randint(len(points), (1,), generator=generator))
    centers = points[first : first + 1]
    for _ in range(num_clusters - 1):
        nearest = torch.cdist(points, centers).amin(dim=1).square().cpu()
        weights = nearest if nearest.sum() > 0 else torch.ones_like(nearest)
        chosen = torch.multinomial(weights, 1, generator=generator)
        centers = torch.cat([centers, points[chosen.to(points.device)]])
    labels = torch.cdist(points, centers).argmin(dim=1)
    for _ in range(num_steps):
        sums = torch.zeros_like(centers).index_add_(0, labels, points)
        counts = labels.bincount(minlength=num_clusters)[:, None]
        centers = torch.where(counts > 0, sums / counts.clamp(min=1), centers)
        before, labels = labels, torch.cdist(points, centers).argmin(dim=1)
        if torch.equal(before, labels):
            break
    return centers, labels


def _mean_radius(points: Tensor, labels: Tensor, num_clusters: int) -> Tensor:
    """Mean radius of the clusters with two points or more, 0 where there are none."""
    radii = [points.new_zeros(())]
    for members in (points[labels == number] for number in range(num_clusters)):
        if len(members) > 1:
            nuclear = _singular_values(members - members.mean(dim=0)).sum()
            radii.append(nuclear / math.sqrt(max(len(members) - 1, points.shape[1])))
    return torch.stack(radii[1:] or radii).mean()


def _singular_values(matrix: Tensor) -> Tensor:
    """In decreasing order, min(N, D) of them, by the smaller Gram matrix in float64."""
    matrix = matrix.double()
    gram = matrix @ matrix.T if len(matrix) < matrix.shape[1] else matrix.T @ matrix
    return torch.linalg.eigvalsh(gram).flip(0).clamp(min=0).sqrt()
