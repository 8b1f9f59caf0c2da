# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Correspondence of two views: matches, those that are right, and the patches shown."""

from typing import Any

from ibot_mm.functional.correspondence import (
    match_patches,
    matching_accuracy,
    overlapping,
    patch_centers,
    strongest_patches,
    true_matches,
)

from .recording import Recording

RECORDS = ('tokens1', 'tokens2', 'corners1', 'match')
INPUTS = ('tokens?', 'corners?', 'dino_attention')


def replay(recording: Recording) -> dict[str, Any]:
    """Compute what our matching gives."""
    settings = recording.settings
    size, patch = settings['image_size'], settings['patch_size']
    side = size // patch
    tokens = [recording.tensor(f'tokens{view}')[:, 1:] for view in (1, 2)]
    centers = [patch_centers(recording.tensor(f'corners{view}'), (side, side)) for view in (1, 2)]
    match, similarity = match_patches(*tokens)
    true_match, overlap = true_matches(*centers), overlapping(*centers)
    accuracy = matching_accuracy(match, true_match, overlap, side, settings['eval_radius'])

    # The published figure takes the attention of another network, on a grid twice as fine.
    attention = recording.tensor('dino_attention').mean(dim=1)[:, 1:]
    attention = attention.unflatten(1, (2 * side, 2 * side))[:, ::2, ::2]
    attention = attention * overlap.unflatten(1, (side, side))
    points = recording.tensor('top_points')  # behind those of the overlap the order is free
    for row, of_image in zip(points, attention):
        chosen = strongest_patches(of_image.flatten(), settings['topk'])
        row[: len(chosen)] = chosen
    return dict(
        match=match,
        similarity=similarity,
        true_match=true_match,
        overlap=overlap,
        accuracy=accuracy,
        attention=attention,
        top_points=points,
    )
