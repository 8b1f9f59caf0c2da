# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What a ViT is: read off its weights and what is told beside them, or off a backbone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .checkpoint import Checkpoint
from .locate import CheckpointError
from .metadata import pair, read_metadata, tell
from .positions import TOKENS_BEFORE_PATCHES, source_layout
from .recognize import Network, find_networks
from .specification import ACTIVATIONS, BY_NAME, PARTS, PATCHES, ROTARY, UNSEEN, Part

# (channels, layers) -> heads, of the networks that everyone has: ViT-T, S, B, L, and DINOv2's g.
# ViT-H has 16 or 20 heads, depending on whose it is.
USUAL_HEADS = {(192, 12): 3, (384, 12): 6, (768, 12): 12, (1024, 24): 16, (1536, 40): 24}


@dataclass
class Architecture:
    """Values of all :data:`PARTS` of one ViT, as attributes.

    Args:
        values: Name of a part -> value; None where nothing tells it.
        sources: Name of a part that tensors do not show -> what tells it, for messages.
        unclear: Name of a part that must be told -> who has which.
    """

    values: dict[str, Any]
    sources: dict[str, str] = field(default_factory=dict)
    unclear: dict[str, str] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('_') or name == 'values' or name not in self.values:
            raise AttributeError(name)
        return self.values[name]

    @property
    def img_size(self) -> tuple[int, int]:
        """Pixels (H, W) that the position embedding is for; 14 x 14 patches where there is none."""
        rows, columns = self.grid or (14, 14)
        return rows * self.patch_size[0], columns * self.patch_size[1]

    @property
    def positions(self) -> str:
        """How the network knows where a patch is, in words."""
        kinds = ['learned'] if self.grid else []
        kinds += ['relative'] if self.relative else []
        kinds += [self.rotary] if self.rotary else []
        return ' and '.join(kinds) or 'of an unknown kind'

    def options(self) -> dict[str, Any]:
        """Return the arguments of :class:`ibot_mm.MaskedVisionTransformer`; defaults are left out.

        Raises:
            CheckpointError: If something must be told, or the class cannot be what this is.
        """
        if wrong := next(self._what_we_cannot_be(), None):
            raise CheckpointError(wrong)
        options: dict[str, Any] = dict(
            arch={},
            img_size=single(self.img_size),
            patch_size=single(self.patch_size),
            mask_token=self.mask_token,
        )
        for part in PARTS:
            if part.option and (
                self.values[part.name] != part.usual(self) or 'arch' in part.option(self)
            ):
                for key, option in part.option(self).items():
                    merge = isinstance(options.get(key), dict)
                    options[key] = options[key] | option if merge else option
        if 'patch_cfg' in options:  # which replaces our default
            options['patch_cfg'] = dict(padding=0) | options['patch_cfg']
        return options

    def _what_we_cannot_be(self) -> Iterator[str]:
        if not self.layer_norm:
            yield 'its norms are RMSNorm, without biases, those of every backbone here layer norms'
        if self.post_norm:
            yield 'its norms come after the branches, those of every backbone here before them'
        for name, why in self.unclear.items():
            yield f'{ask(name)} ({why})'
        if self.num_heads is None:
            yield (
                f'weights do not show how many attention heads a ViT has, and {self.embed_dims} '
                f'channels with {self.num_layers} layers is not a usual size: give num_heads '
                'by assume=dict(num_heads=...)'
            )
        if self.gated and self.activation != 'silu':
            yield (
                f'its gated feed-forward network has {self.activation}, that of mmpretrain has '
                'silu: such weights cannot be loaded'
            )
        if self.gated and self.hidden % 8:
            yield (
                f"mmpretrain's SwiGLU has a multiple of 8 hidden channels, the checkpoint's "
                f'{self.hidden}: such weights cannot be loaded'
            )
        if self.rotary not in ('', ROTARY) or not (self.grid or self.rotary or self.relative):
            yield (
                f'its positions are {self.positions}: no backbone of this project has such; '
                f"ibot_mm.TimmVisionTransformer takes timm's own weights"
            )
        if not self.gated and self.activation not in ACTIVATIONS:
            yield f'its activation is {self.activation}; known are {", ".join(ACTIVATIONS)}'


def ask(name: str) -> str:
    """Say how to tell a part that nothing in the file tells."""
    examples = dict(
        activation="activation='gelu' or 'quick_gelu'",
        rotary='rotary=False or True',
        post_norm='post_norm=False or True',
    )
    return (
        f'nothing in the file tells its {BY_NAME[name].title}: say it by '
        f'assume=dict({examples.get(name, f"{name}=...")})'
    )


def single(size: tuple[int, int]) -> Any:
    """Return a size (H, W) as one number where it is square."""
    return size[0] if size[0] == size[1] else size


def describe_network(network: Network, grid: tuple[int, int] | None = None) -> Architecture:
    """Describe a ViT of a checkpoint.

    What leaves no trace in weights, such as heads, is taken from what is assumed, else from what
    is stored beside them, else from what the format settles, else from what is usual.

    Args:
        network: As from :func:`recognize`.
        grid: What the patches of the position embedding may be, where nothing tells them.
            Defaults to None.

    Raises:
        CheckpointError: If what is assumed is of no use, the patches of the position embedding
            cannot be told, or essential weights are missing.
    """
    state = network.weights.state
    told, unclear = tell_network(network)
    values, sources = _shown(state), {}
    for part in UNSEEN:
        found = told[part.name] if part.name in told else _usual(part, values)
        values[part.name], sources[part.name] = found
    heads, channels = values['num_heads'], values['embed_dims']
    if heads and channels % heads:
        raise CheckpointError(f'{channels} channels are not divisible by {heads} heads')
    values['grid'] = None
    if 'pos_embed' in state:
        size = told['img_size'][0] if 'img_size' in told else None
        values['grid'] = _grid(network, size, grid)
    return Architecture(values, sources, unclear)


def tell_network(network: Network) -> tuple[dict[str, tuple[Any, str]], dict[str, str]]:
    """Tell what leaves no trace in weights: by what is assumed, else stored, else of the format.

    Returns:
        Name of a part, or 'img_size', -> value, and what tells it; name of a part that must be
        told -> who has which.

    Raises:
        CheckpointError: If what is assumed is of no use.
    """
    told = tell_beside(network.checkpoint, network.assume)
    unclear: dict[str, str] = {}
    names = {network.prefix, *network.weights.state, *network.weights.left_out}
    rules = network.format.rules
    for name in (part.name for part in UNSEEN if part.name not in told):
        rule = next((r for r in rules if r.part == name and r.when(names)), None)
        if rule is not None and rule.value is not None:
            told[name] = rule.value, f'as {network.format.title} has it'
        elif rule is not None:
            unclear[name] = rule.why
    return told, unclear


def tell_beside(
    checkpoint: Checkpoint, assume: Mapping[str, Any] = {}
) -> dict[str, tuple[Any, str]]:
    """Tell what is assumed, or stored beside the tensors, see :func:`tell_network`."""
    stored, origin = read_metadata(checkpoint)
    told = {name: (value, f'by {origin}') for name, value in stored.items() if value is not None}
    return told | {name: (value, 'as given') for name, value in _check(assume).items()}


def describe_backbone(backbone: Any) -> Architecture:
    """Describe a backbone with names of mm or a model of timm."""
    network = next(n for n in find_networks(backbone.state_dict()) if not n.prefix)
    state = network.weights.state
    values = _shown(state) | tell('timm' if hasattr(backbone, 'blocks') else 'module', backbone)
    values['grid'] = grid_of(backbone) if 'pos_embed' in state else None
    return Architecture(values, dict.fromkeys((p.name for p in UNSEEN), 'the backbone'))


def grid_of(backbone: Any) -> tuple[int, int]:
    """Return the patches (h, w) of the images that a backbone, or a model of timm, is for."""
    if hasattr(backbone, 'patch_resolution'):
        return tuple(backbone.patch_resolution)
    sized = backbone.patch_embed if hasattr(backbone, 'blocks') else backbone
    (height, width), (h, w) = pair(sized.img_size) or (0, 0), pair(sized.patch_size) or (1, 1)
    return height // h, width // w


def _shown(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Values of all parts that tensors show, under our names."""
    return {part.name: part.tensors(state) for part in PARTS if part.tensors}


def _check(assume: Mapping[str, Any]) -> dict[str, Any]:
    given = dict(assume)
    known = [*(part.name for part in UNSEEN), 'img_size']
    for name in given:
        if name not in known:
            raise CheckpointError(f"assume has no '{name}': it tells {', '.join(known)}")
    if 'rotary' in given:
        given['rotary'] = ROTARY if given['rotary'] is True else given['rotary'] or ''
    if 'img_size' in given:
        given['img_size'] = pair(given['img_size'])
    for name, value in given.items():
        if value is None or name in BY_NAME and not BY_NAME[name].allows(value):
            raise CheckpointError(f'assume: {name} cannot be {assume[name]!r}')
    return given


def _usual(part: Part, values: Mapping[str, Any]) -> tuple[Any, str]:
    if part.name != 'num_heads':
        return part.usual(Architecture(dict(values))), 'usual'
    size = (values['embed_dims'], values['num_layers'])
    usual = USUAL_HEADS.get(size)
    if usual is None:
        return None, 'not told by weights'
    return usual, f'usual for {size[0]} channels and {size[1]} layers'


def _grid(
    network: Network, told: tuple[int, int] | None, guess: tuple[int, int] | None
) -> tuple[int, int]:
    state = network.weights.state
    if state['pos_embed'].ndim == 4:  # (1, H, W, D)
        return state['pos_embed'].shape[1], state['pos_embed'].shape[2]
    height, width = told or (0, 0)
    patch = state[PATCHES].shape[2:]
    lengths = {name: state[name].shape[1] for name in TOKENS_BEFORE_PATCHES if name in state}
    numbers = [sum(lengths.get(n, 0) for n in names) for names in network.format.with_positions]
    length = state['pos_embed'].shape[1]
    for grid in ((height // patch[0], width // patch[1]), guess):
        if grid and any(length - number == grid[0] * grid[1] for number in numbers):
            return grid
    try:
        return source_layout(length, numbers, (0, 0))[1]
    except CheckpointError:
        if guess:
            return guess  # adapt() says that it does not fit
        raise CheckpointError(
            f'the position embedding has {length} entries, not a square grid, and nothing '
            'in the file tells the size of the images'
        ) from None
