# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What robustness is measured by: natural adversarial images, backgrounds, corruptions."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

# The 9 groups of ImageNet-9 (arXiv 2006.09994), and the first and last class of each of their
# intervals in the order of ImageNet-1K. All other classes belong to no group.
IMAGENET9_GROUPS = (
    'dog', 'bird', 'wheeled vehicle', 'reptile', 'carnivore', 'insect', 'musical instrument',
    'primate', 'fish',
)  # fmt: skip
IMAGENET9_CLASSES: tuple[tuple[tuple[int, int], ...], ...] = (
    ((151, 170), (173, 268)),
    ((7, 24), (87, 100), (127, 146)),
    (
        *((407, 408), (428, 428), (436, 436), (444, 444), (468, 468), (511, 511), (547, 547)),
        *((555, 555), (561, 561), (565, 565), (569, 569), (573, 573), (586, 586), (603, 603)),
        *((609, 609), (612, 612), (627, 627), (656, 656), (661, 661), (665, 665), (670, 671)),
        *((675, 675), (690, 690), (705, 705), (717, 717), (734, 734), (751, 751), (757, 757)),
        *((791, 791), (802, 803), (817, 817), (820, 820), (829, 829), (847, 847), (864, 864)),
        *((866, 867), (870, 870), (880, 880)),
    ),
    ((33, 68),),
    ((269, 280), (286, 299), (356, 362), (387, 388)),
    ((300, 326),),
    (
        *((401, 402), (420, 420), (432, 432), (486, 486), (494, 494), (513, 513), (541, 541)),
        *((546, 546), (558, 558), (566, 566), (577, 577), (579, 579), (593, 594), (641, 642)),
        *((683, 684), (687, 687), (699, 699), (776, 776), (822, 822), (875, 875), (881, 881)),
        (889, 889),
    ),
    ((365, 384),),
    ((0, 6), (389, 397)),
)

# AlexNet's error on each of the 15 corruptions of ImageNet-C, the mean over 5 severities
# (arXiv 1903.12261, table 1 and its repository).
ALEXNET_ERRORS = dict(
    gaussian_noise=0.886428,
    shot_noise=0.894468,
    impulse_noise=0.922640,
    defocus_blur=0.819880,
    glass_blur=0.826268,
    motion_blur=0.785948,
    zoom_blur=0.798360,
    snow=0.866816,
    frost=0.826572,
    fog=0.819324,
    brightness=0.564592,
    contrast=0.853204,
    elastic_transform=0.646056,
    pixelate=0.717840,
    jpeg_compression=0.606500,
)


def predict_within(logits: Tensor, classes: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
    """Predict among some of the classes only, as for ImageNet-A and ImageNet-R.

    Args:
        logits: Of all C classes, (N, C).
        classes: The K that count.

    Returns:
        Predictions (N,), places in ``classes``, and their confidence (N,), the softmax among the K.
    """
    within = logits[:, torch.as_tensor(classes, device=logits.device)]
    confidence, predictions = within.softmax(dim=1).max(dim=1)
    return predictions, confidence


def rms_calibration_error(
    confidence: Tensor, correct: Tensor, bin_size: int = 100, as_published: bool = False
) -> float:
    """Compute the root mean square between confidence and accuracy, bin by bin (arXiv 1812.04606).

    Samples are sorted by confidence; ``bin_size`` of them make a bin, and the last bin takes the
    rest too.

    Args:
        confidence: Of each prediction, (N,).
        correct: Whether it is right, (N,).
        bin_size: Defaults to 100.
        as_published: Whether to leave the last bin, the most confident samples, out of the sum, as
            the code of ImageNet-A does. Defaults to False.

    Returns:
        A share; 0 is perfect.

    Raises:
        ValueError: If there are no samples, or ``bin_size`` is below 1.
    """
    number = len(confidence)
    if number < 1 or bin_size < 1:
        raise ValueError(
            f'a calibration error needs samples and bins of at least 1, got {number} samples in '
            f'bins of {bin_size}'
        )
    order = confidence.argsort(stable=True)
    last = max(number // bin_size, 1) - 1
    bins = (torch.arange(number, device=confidence.device) // bin_size).clamp(max=last)
    gaps = (confidence.double() - correct.double())[order]
    zeros = gaps.new_zeros(last + 1)
    sizes, sums = zeros.index_add(0, bins, torch.ones_like(gaps)), zeros.index_add(0, bins, gaps)
    squares = sizes / number * (sums / sizes).square()
    return float((squares[:-1] if as_published else squares).sum().sqrt())


def response_rate_accuracy(confidence: Tensor, correct: Tensor) -> float:
    """Compute the area under the curve of accuracy over response rate (AURRA, arXiv 1907.07174).

    Args:
        confidence: Of each prediction, (N,).
        correct: Whether it is right, (N,).

    Returns:
        The mean, over n = 1 to N, of the accuracy on the n most confident predictions; a share.
    """
    order = confidence.argsort(descending=True, stable=True)
    hits = correct.double()[order].cumsum(dim=0)
    return float((hits / torch.arange(1, len(hits) + 1, device=hits.device)).mean())


def imagenet9_groups() -> Tensor:
    """Return the group of each of ImageNet's 1000 classes, -1 where it has none, (1000,)."""
    groups = torch.full((1000,), -1)
    for group, intervals in enumerate(IMAGENET9_CLASSES):
        for first, last in intervals:
            groups[first : last + 1] = group
    return groups


def predict_groups(logits: Tensor, group_of_class: Tensor) -> Tensor:
    """Predict among all classes, then name the group: a class without group is wrong.

    Args:
        logits: Shape (N, C).
        group_of_class: Group of each class, -1 for none, (C,).

    Returns:
        Shape (N,).
    """
    return group_of_class.to(logits.device)[logits.argmax(dim=1)]


def paste(foregrounds: Tensor, masks: Tensor, backgrounds: Tensor) -> Tensor:
    """Paste foregrounds on backgrounds.

    Args:
        foregrounds: Shape (..., 3, H, W).
        masks: 1 or True where the foreground is, (..., H, W).
        backgrounds: Shape (..., 3, H, W).

    Returns:
        Shape and dtype of the foregrounds, against all backgrounds they are broadcast with.

    Raises:
        ValueError: If the sizes differ.
    """
    sizes = {tuple(images.shape[-2:]) for images in (foregrounds, masks, backgrounds)}
    if len(sizes) != 1:
        raise ValueError(
            f'foregrounds of size {tuple(foregrounds.shape[-2:])}, masks of '
            f'{tuple(masks.shape[-2:])} and backgrounds of {tuple(backgrounds.shape[-2:])} do not '
            'fit: all must be of one height and width'
        )
    return torch.where(masks.bool()[..., None, :, :], foregrounds, backgrounds)


def is_vulnerable(
    predict: Callable[[Tensor], Tensor],
    foreground: Tensor,
    mask: Tensor,
    group: int,
    backgrounds: Sequence[Tensor],
) -> bool:
    """Tell whether any background makes a classifier miss a foreground (backgrounds challenge).

    Args:
        predict: Images (B, 3, H, W) to groups (B,).
        foreground: Shape (3, H, W).
        mask: Where it is, (H, W).
        group: The right answer.
        backgrounds: Batches (B, 3, H, W); those after the first miss are not looked at.
    """
    return any(
        bool((predict(paste(foreground, mask, batch)) != group).any()) for batch in backgrounds
    )


def mean_error(errors: Mapping[str, Sequence[float]]) -> float:
    """Average errors over severities, then over corruptions.

    The number the paper calls mCE is this one, over the 15 corruptions of ImageNet-C and 4 more.

    Args:
        errors: Corruption -> error at each severity.
    """
    return sum(sum(of_one) / len(of_one) for of_one in errors.values()) / len(errors)


def mean_corruption_error(errors: Mapping[str, Sequence[float]]) -> float:
    """Compute the mCE of ImageNet-C: errors divided by AlexNet's (arXiv 1903.12261, section 4).

    Args:
        errors: Corruption -> errors at each of 5 severities, shares or percent. Corruptions beside
            the 15 are left out.

    Returns:
        In the unit of the errors; 1, or 100 percent, for AlexNet itself.

    Raises:
        ValueError: If one of the 15 is missing.
    """
    if missing := [name for name in ALEXNET_ERRORS if name not in errors]:
        raise ValueError(
            f'the mCE divides by the errors of AlexNet on {len(ALEXNET_ERRORS)} corruptions, and '
            f'there is none for {", ".join(missing)}'
        )
    ratios = [sum(errors[n]) / len(errors[n]) / alexnet for n, alexnet in ALEXNET_ERRORS.items()]
    return sum(ratios) / len(ratios)
