# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Results as published (paper and README of github.com/bytedance/ibot), in percent."""

from collections.abc import Mapping
from typing import Any

# Architecture -> protocol -> what varies within it ('' for nothing) -> number. Pre-trained on
# ImageNet-1K with block masks.
PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    'vit_small_patch16': {
        'knn': {'': 75.2},
        'linear': {'': 77.9},
        'clustering': {'acc': 43.4, 'ari': 32.8, 'nmi': 78.6, 'fmi': 35.6},
        'few_labels': {
            '0.01 knn': 62.3,
            '0.1 knn': 70.1,
            '0.01 linear': 62.5,
            '0.1 linear': 72.2,
            '0.01 logistic': 65.9,
            '0.1 logistic': 73.4,
        },
    },
    'vit_base_patch16': {'knn': {'': 77.1}, 'linear': {'': 79.5}},
    'vit_large_patch16': {'knn': {'': 78.0}, 'linear': {'': 81.0}},
    'swin_tiny_patch4_window7': {'knn': {'': 75.3}, 'linear': {'': 78.6}},
    'swin_tiny_patch4_window14': {'knn': {'': 76.2}, 'linear': {'': 79.3}},
}
NUM_CLASSES = 1000  # of the data that they are for


def published_number(
    architecture: str, protocol: str, detail: str = '', num_classes: int = NUM_CLASSES
) -> float | None:
    """Find a published number to stand beside a measured one.

    Args:
        architecture: Such as 'vit_small_patch16'.
        protocol: Name of the protocol.
        detail: Metric of clustering, or share and protocol of few labels. Defaults to ''.
        num_classes: Of the data measured on; only ImageNet-1K's 1000 have published numbers.
            Defaults to 1000.

    Returns:
        In percent, or None if there is none.
    """
    if num_classes != NUM_CLASSES:
        return None
    return PUBLISHED.get(architecture, {}).get(protocol, {}).get(detail)


# Title of a task's row -> the sizes that tell the data, and architecture -> metric -> number, of
# networks pre-trained on ImageNet-1K.
RESULTS: dict[str, tuple[dict[str, int], dict[str, dict[str, float]]]] = {
    'davis': (
        dict(videos=30, objects=61),
        {'vit_small_patch16': {'jf': 61.8, 'j_mean': 60.4, 'f_mean': 63.2}},
    ),
    'retrieval roxford5k medium': (
        dict(images=4993, queries=70),
        {'vit_small_patch16': {'map': 36.6}},
    ),
    'retrieval roxford5k hard': (
        dict(images=4993, queries=70),
        {'vit_small_patch16': {'map': 13.0}},
    ),
    'retrieval rparis6k medium': (
        dict(images=6322, queries=70),
        {'vit_small_patch16': {'map': 61.5}},
    ),
    'retrieval rparis6k hard': (
        dict(images=6322, queries=70),
        {'vit_small_patch16': {'map': 34.1}},
    ),
    **{
        f'imagenet_9 {variant}': (dict(images=4050), {'vit_small_patch16': {'top1': number}})
        for variant, number in (
            ('original', 96.8),
            ('mixed_same', 89.7),
            ('mixed_rand', 81.7),
            ('mixed_next', 80.3),
            ('no_fg', 53.5),
            ('only_bg_b', 22.7),
            ('only_bg_t', 17.4),
            ('only_fg', 90.9),
        )
    },
    'imagenet_a': (dict(images=7500), {'vit_small_patch16': {'top1': 13.8}}),
    'imagenet_c': (
        dict(images=50000, corruptions=19),
        {'vit_small_patch16': {'mean_error': 48.1}},
    ),
    # By the attention of head 1 of another network, DINO's ViT-S/16.
    'occlusion salient 0.5': (
        dict(images=50000, head=1),
        {'vit_small_patch16': {'top1': 65.9}},
    ),
    'occlusion non_salient 0.5': (
        dict(images=50000, head=1),
        {'vit_small_patch16': {'top1': 43.4}},
    ),
}


def published_result(
    architecture: str, title: str, metric: str, setting: Mapping[str, Any]
) -> float | None:
    """Find the published number of a task.

    Args:
        architecture: Such as 'vit_small_patch16'.
        title: Of the row, such as 'retrieval roxford5k medium'.
        metric: Such as 'map'.
        setting: Of the measurement, whose sizes tell whether it is of the published data.

    Returns:
        In percent, or None if there is none for such data.
    """
    sizes, numbers = RESULTS.get(title, ({}, {}))
    if any(setting.get(name) != size for name, size in sizes.items()):
        return None
    return numbers.get(architecture, {}).get(metric)
