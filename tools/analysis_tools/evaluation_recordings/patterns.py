# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Pattern layout: prototypes of patches and of [CLS], and their best members."""

from typing import Any

import torch

from ibot_mm.functional.patterns import assign_prototypes, best_members, largest_prototypes

from .recording import Recording

RECORDS = ('patch_logits', 'cls_logits', 'patch.members')
INPUTS = ('*_logits', '*.true_members')


def replay(recording: Recording) -> dict[str, Any]:
    """Compute what our layout gives."""
    settings = recording.settings
    number, grid = settings['prototypes'], settings['grid']
    values: dict[str, Any] = {}
    for kind in ('patch', 'cls'):
        logits = recording.tensor(f'{kind}_logits')
        largest, prototypes = assign_prototypes(logits)
        values[f'{kind}.memory'] = torch.stack([largest, prototypes.double()], dim=-1)
        values[f'{kind}.count_per_cluster'] = torch.bincount(prototypes.flatten(), minlength=number)
        clusters = largest_prototypes(prototypes, number, settings['show'])
        values[f'{kind}.clusters'] = clusters
        # Recorded rows go on with fillers, which we do not have.
        members = recording.tensor(f'{kind}.members')
        for cluster, rows, true in zip(
            clusters.tolist(), members, recording.arrays[f'{kind}.true_members']
        ):
            images, places = best_members(
                largest.reshape(len(logits), -1),
                prototypes.reshape(len(logits), -1),
                cluster,
                min(int(true), len(rows)),
            )
            found = torch.stack([images, places // grid, places % grid], dim=1)
            rows[: len(found)] = found if kind == 'patch' else images
        values[f'{kind}.members'] = members
    return values
