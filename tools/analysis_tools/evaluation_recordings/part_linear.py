# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Part-wise linear probing: attention of [CLS], and means of the patches it attends to."""

import re
from typing import Any

from ibot_mm.evaluation.tasks.part_linear import attention_and_patches
from ibot_mm.frozen_network import FrozenNetwork
from ibot_mm.functional.attended_patches import mean_of_attended

from .features import build_vit
from .recording import Recording

RECORDS = ('vit.*', 'images', 'attention', 'features.top*')
INPUTS = ('vit.*', 'images')


def replay(recording: Recording) -> dict[str, Any]:
    """Compute what our backbone and selection give."""
    settings = recording.settings
    sizes = {
        n: settings[n] for n in ('image_size', 'patch_size', 'embed_dim', 'depth', 'num_heads')
    }
    state = recording.tensors('vit.')
    hidden = len(state['blocks.0.mlp.fc1.bias'])
    given = dict(vit=sizes, norm_eps=settings['norm_eps'], mlp_ratio=hidden / sizes['embed_dim'])
    network = FrozenNetwork(build_vit(given, state), 'tiny')
    attention, patches = attention_and_patches(network, recording.tensor('images'))
    values: dict[str, Any] = dict(attention=attention)
    for name in recording.arrays:
        if match := re.fullmatch(r'features\.top(\d+)(\.reverse)?', name):
            values[name] = mean_of_attended(patches, attention, int(match[1]), bool(match[2]))
    return values
