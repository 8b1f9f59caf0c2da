# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What keeps the weights of a checkpoint from filling a backbone."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from .parts import Part, is_left_out, part_of
from .recognize import num_layers

PATCHES = 'patch_embed.projection.weight'
# First linear layer of the feed-forward network, and how many it is in one.
HIDDEN = {'layers.0.ffn.layers.0.0.weight': 1, 'layers.0.ffn.w12.weight': 2}

ADVICE = {
    'learned': 'set rotary=False (of mmpretrain.BEiTViT use_rel_pos_bias=False and '
    'use_abs_pos_emb=True)',
    'relative': 'only mmpretrain.BEiTViT has such a bias, take it as backbone, with '
    'use_rel_pos_bias=True',
    'learned and relative': 'take mmpretrain.BEiTViT as backbone, with use_rel_pos_bias=True and '
    'use_abs_pos_emb=True',
    'rotary': "set rotary=True (an option of ibot_mm's backbones)",
    'of an unknown kind': 'they are neither learned nor those of DINOv3, and no backbone here has '
    'them',
}

State = Mapping[str, Tensor]


def differences_of_size(source: State, target: State) -> list[str]:
    """Differences of depth, width, patches and the like, each with the option that ends it.

    Args:
        source: Weights of the checkpoint under our names.
        target: Those of the backbone.
    """
    found = []

    def compare(what: str, theirs: object, ours: object, advice: str) -> None:
        if theirs != ours:
            found.append(f'{what}: {theirs} in the checkpoint, {ours} in the backbone; {advice}')

    depth, width = num_layers(source), source[PATCHES].shape[0]
    compare(
        'number of layers',
        depth,
        num_layers(target),
        f'set num_layers={depth} in arch, or take weights of another size',
    )
    compare(
        'channels',
        width,
        target[PATCHES].shape[0],
        f'set embed_dims={width} in arch, or take weights of another size',
    )
    images = source[PATCHES].shape[1]
    compare('channels of images', images, target[PATCHES].shape[1], f'set in_channels={images}')
    patch = tuple(source[PATCHES].shape[2:])
    size = patch[0] if patch[0] == patch[1] else patch
    compare('patch size', patch, tuple(target[PATCHES].shape[2:]), f'set patch_size={size}')
    for name, number in HIDDEN.items():
        if name in source and name in target:
            hidden = source[name].shape[0] // number
            # mmpretrain's SwiGLU takes two thirds of the number that it is given.
            option = hidden if number == 1 else -(-hidden * 3 // 2)
            compare(
                'hidden channels of the feed-forward network',
                hidden,
                target[name].shape[0] // number,
                f'set feedforward_channels={option} in arch',
            )
    if 'register_tokens' in source and 'register_tokens' in target:
        registers = source['register_tokens'].shape[1]
        ours = target['register_tokens'].shape[1]
        compare('register tokens', registers, ours, f'set num_registers={registers}')
    return found


def differences_of_parts(source: State, target: State) -> list[str]:
    """Parts that only one has, positions apart, each with the option that ends it.

    Args:
        source: Weights of the checkpoint under our names.
        target: Those of the backbone.
    """
    found = []
    for part, name in _parts(name for name in source if name not in target).items():
        if part.surplus and not is_left_out(name, target):
            number = source[name].shape[1] if name == 'register_tokens' else None
            advice = part.surplus.format(number=number)
            found.append(f'the checkpoint has {part.title}, the backbone has none: {advice}')
    for part in _parts(name for name in target if name not in source):
        if part.lacking:
            found.append(f'the backbone has {part.title}, the checkpoint has none: {part.lacking}')
    return found


def difference_of_positions(
    source: State, target: State, source_rotary: bool, target_rotary: bool
) -> list[str]:
    """A difference in how networks know where a patch is, with the option that ends it.

    Args:
        source: Weights of the checkpoint under our names.
        target: Those of the backbone.
        source_rotary: Whether the checkpoint's network has DINOv3's rotary position embedding, if
            it has no other.
        target_rotary: Whether the backbone has it.
    """
    theirs, ours = _positions(source, source_rotary), _positions(target, target_rotary)
    if theirs == ours and theirs != 'of an unknown kind':
        return []
    return [
        f'the positions in the checkpoint are {theirs}, in the backbone {ours}: {ADVICE[theirs]}'
    ]


def _positions(state: State, rotary: bool) -> str:
    kinds = []
    if 'pos_embed' in state:
        kinds.append('learned')
    if any(name.endswith('relative_position_bias_table') for name in state):
        kinds.append('relative')
    return ' and '.join(kinds) or ('rotary' if rotary else 'of an unknown kind')


def _parts(names: Iterable[str]) -> dict[Part, str]:
    parts: dict[Part, str] = {}
    for name in names:
        part = part_of(name)
        if part:
            parts.setdefault(part, name)
    return parts
