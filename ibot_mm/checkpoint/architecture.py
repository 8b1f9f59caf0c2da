# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What a ViT is: read off its weights and what is told beside them, or off a backbone."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .checkpoint import Checkpoint
from .locate import CheckpointError
from .parts import ACTIVATIONS, EPS, PARTS, PATCHES, ROTARY, UNSEEN, ask
from .positions import TOKENS_BEFORE_PATCHES, source_layout
from .recognize import Network

# (channels, layers) -> heads, of the networks that everyone has: ViT-T, S, B, L, and DINOv2's g.
# ViT-H has 16 or 20 heads, depending on whose it is.
USUAL_HEADS = {(192, 12): 3, (384, 12): 6, (768, 12): 12, (1024, 24): 16, (1536, 40): 24}

# Arguments of ibot_mm.TimmVisionTransformer that timm does not get.
_NOT_OF_TIMM = (
    'type', 'model_name', 'mask_token', 'out_type', 'out_indices', 'final_norm', 'frozen_stages',
    'with_cp', 'init_cfg', 'pretrained',
)  # fmt: skip

_RMS_NORM = 'RMSNorm, without biases, those of every backbone here are layer norms'


class Architecture:
    """Values of all :data:`PARTS` of one ViT, as attributes.

    Args:
        values: Name of a part -> value; None where nothing tells it.
        sources: Name of a part that tensors do not show -> what tells it, for messages.
        unclear: Name of a part that must be told -> who has which.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        sources: Mapping[str, str] | None = None,
        unclear: Mapping[str, str] | None = None,
    ) -> None:
        self.values = dict(values)
        self.sources = dict(sources or {})
        self.unclear = dict(unclear or {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith('_') or name == 'values' or name not in self.values:
            raise AttributeError(name)
        return self.values[name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self.values == other.values

    __hash__ = None  # type: ignore[assignment]

    @property
    def img_size(self) -> tuple[int, int]:
        """Pixels (H, W) that the position embedding is for; 14 x 14 patches where there is none."""
        rows, columns = self.grid or (14, 14)
        return rows * self.patch_size[0], columns * self.patch_size[1]

    def options(self) -> dict[str, Any]:
        """Arguments of :class:`ibot_mm.MaskedVisionTransformer`; defaults are left out.

        Raises:
            CheckpointError: If something must be told, or the class cannot be what this is.
        """
        if not self.layer_norm:
            raise CheckpointError(f'its norms are {_RMS_NORM}')
        if self.post_norm:
            raise CheckpointError(
                'its norms come after the branches, those of every backbone here before them'
            )
        for name, why in self.unclear.items():
            raise CheckpointError(f'{ask(name)} ({why})')
        if self.num_heads is None:
            raise CheckpointError(
                f'weights do not show how many attention heads a ViT has, and {self.embed_dims} '
                f'channels with {self.num_layers} layers are no usual size: give num_heads '
                'by assume=dict(num_heads=...)'
            )
        if self.gated and self.activation != 'silu':
            raise CheckpointError(
                f'its gated feed-forward network has {self.activation}, that of mmpretrain has '
                'silu: such weights cannot be loaded'
            )
        if self.gated and self.hidden % 8:
            raise CheckpointError(
                f"mmpretrain's SwiGLU has a multiple of 8 hidden channels, the checkpoint's "
                f'{self.hidden}: such weights cannot be loaded'
            )
        if self.rotary not in ('', ROTARY) or not (self.grid or self.rotary or self.relative):
            raise CheckpointError(
                f'its positions are {positions(self)}: no backbone of this project has such; '
                f"ibot_mm.TimmVisionTransformer takes timm's own weights"
            )
        if not self.gated and self.activation not in ACTIVATIONS:
            raise CheckpointError(
                f'its activation is {self.activation}; known are {", ".join(ACTIVATIONS)}'
            )
        size, patch = self.img_size, self.patch_size
        options: dict[str, Any] = dict(
            arch={},
            img_size=size[0] if size[0] == size[1] else size,
            patch_size=patch[0] if patch[0] == patch[1] else patch,
            mask_token=self.mask_token,
        )
        for part in PARTS:
            value = self.values[part.name]
            default = part.default(self) if callable(part.default) else part.default
            if part.option and (value != default or 'arch' in part.option(self)):
                for key, option in part.option(self).items():
                    merge = isinstance(options.get(key), dict)
                    options[key] = options[key] | option if merge else option
        if 'patch_cfg' in options:  # which replaces our default
            options['patch_cfg'] = dict(padding=0) | options['patch_cfg']
        return options


def positions(architecture: Architecture) -> str:
    """How the network knows where a patch is, in words."""
    kinds = ['learned'] if architecture.grid else []
    kinds += ['relative'] if architecture.relative else []
    kinds += [architecture.rotary] if architecture.rotary else []
    return ' and '.join(kinds) or 'of an unknown kind'


def describe_network(
    network: Network,
    checkpoint: Checkpoint,
    assume: Mapping[str, Any] | None = None,
    grid: tuple[int, int] | None = None,
) -> Architecture:
    """Describe a ViT of a checkpoint.

    What leaves no trace in weights, such as heads, is taken from ``assume``, else from what is
    stored beside them, else from what the format settles, else from what is usual.

    Args:
        network: As from :func:`recognize`.
        checkpoint: What is told beside the weights.
        assume: Name of a part -> value, where nothing in the file tells it; ``img_size`` too.
            Defaults to None.
        grid: What the patches of the position embedding may be, where nothing tells them.
            Defaults to None.

    Raises:
        CheckpointError: If ``assume`` is of no use, the patches of the position embedding cannot
            be told, or essential weights are missing.
    """
    state, given = network.weights.state, _check(assume)
    told, origin = read_metadata(checkpoint)
    values = read_parts(state)
    names = {network.prefix, *state, *network.weights.left_out}
    sources, unclear = {}, {}
    for part in UNSEEN:
        rules = network.format.rules
        rule = next((r for r in rules if r.part == part.name and r.when(names)), None)
        if part.name in given:
            values[part.name], sources[part.name] = given[part.name], 'as given'
        elif told.get(part.name) is not None:
            values[part.name], sources[part.name] = told[part.name], f'by {origin}'
        elif rule is not None and rule.value is not None:
            values[part.name], sources[part.name] = rule.value, f'as {network.format.title} has it'
        else:
            values[part.name], sources[part.name] = _usual(part.name, values)
            if rule is not None:
                unclear[part.name] = rule.why
    heads, channels = values['num_heads'], values['embed_dims']
    if heads and channels % heads:
        raise CheckpointError(f'{channels} channels are not divisible by {heads} heads')
    values['grid'] = None
    if 'pos_embed' in state:
        values['grid'] = _grid(network, given.get('img_size') or told.get('img_size'), grid)
    return Architecture(values, sources, unclear)


def describe_backbone(backbone: nn.Module) -> Architecture:
    """Describe a backbone with mmpretrain's names, such as ours."""
    module: Any = backbone
    values = read_parts(module.state_dict()) | {
        p.name: p.module(module) for p in UNSEEN if p.module
    }
    values['grid'] = tuple(module.patch_resolution) if module.pos_embed is not None else None
    return Architecture(values, dict.fromkeys((p.name for p in UNSEEN), 'the backbone'))


def read_parts(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Values of all parts that tensors under our names show."""
    return {part.name: part.tensors(state) for part in PARTS if part.tensors}


def read_metadata(checkpoint: Checkpoint) -> tuple[dict[str, Any], str]:
    """Values of parts that are told beside the tensors, and where they are.

    Args:
        checkpoint: With Hugging Face's, OpenCLIP's or timm's JSON, or the config that mmengine
            stores.
    """
    config: Mapping[str, Any] = checkpoint.config
    if isinstance(config.get('architecture'), str):  # timm's
        return _of_timm(config['architecture'], config.get('model_args') or {}), 'config.json'
    if isinstance(config.get('model_cfg'), dict):  # OpenCLIP's
        return _of_open_clip(config['model_cfg']), 'open_clip_config.json'
    nested = config.get('vision_config', config.get('backbone_config'))
    config = nested if isinstance(nested, dict) else config
    if config.get('num_attention_heads'):  # Hugging Face's
        told = _tell('json', dict(config)) | dict(img_size=_size(config.get('image_size')))
        if config.get('use_swiglu_ffn'):  # which has an activation of its own
            told['activation'] = 'silu'
        return told, 'config.json'
    backbone = checkpoint.backbone_config
    if backbone.get('model_name'):
        options = {k: v for k, v in backbone.items() if k not in _NOT_OF_TIMM}
        return _of_timm(backbone['model_name'], options), 'the config in the file'
    told = _tell('config', backbone) | dict(img_size=_size(backbone.get('img_size')))
    return told, 'the config in the file'


def _tell(source: str, of: Any) -> dict[str, Any]:
    """All that a source tells of parts that tensors do not show."""
    told = {}
    for part in UNSEEN:
        try:
            told[part.name] = getattr(part, source)(of)
        except (KeyError, TypeError, AttributeError, IndexError):
            continue  # it does not tell
    return {name: value for name, value in told.items() if value is not None}


def describe_timm_model(model: Any) -> dict[str, Any]:
    """Values of the parts of a model of timm that its tensors do not show."""
    return _tell('timm', model)


def _of_timm(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        import timm
        import torch

        with torch.device('meta'):
            model = timm.create_model(name.split('/')[-1], num_classes=0, **options)
    except (ImportError, RuntimeError, TypeError):
        return {}
    return describe_timm_model(model)


def _of_open_clip(config: Mapping[str, Any]) -> dict[str, Any]:
    vision = config.get('vision_cfg')
    if not isinstance(vision, dict):
        return {}
    if vision.get('timm_model_name'):
        return _of_timm(vision['timm_model_name'], {})
    heads = vision['width'] // vision.get('head_width', 64) if vision.get('width') else None
    activation = 'quick_gelu' if config.get('quick_gelu') else 'gelu'
    return dict(num_heads=heads, activation=activation, img_size=_size(vision.get('image_size')))


def _check(assume: Mapping[str, Any] | None) -> dict[str, Any]:
    given = dict(assume or {})
    known = [*(part.name for part in UNSEEN), 'img_size']
    for name in given:
        if name not in known:
            raise CheckpointError(f"assume has no '{name}': it tells {', '.join(known)}")
    if 'rotary' in given:
        given['rotary'] = ROTARY if given['rotary'] is True else given['rotary'] or ''
    if 'img_size' in given:
        given['img_size'] = _size(given['img_size'])
    return given


def _size(size: Any) -> tuple[int, int] | None:
    if isinstance(size, (list, tuple)):
        return size[0], size[1]
    return (size, size) if isinstance(size, int) else None


def _usual(name: str, values: Mapping[str, Any]) -> tuple[Any, str]:
    if name != 'num_heads':
        gated = dict(activation='silu') if values['gated'] else {}
        return (dict(norm_eps=EPS, activation='gelu', rotary='', post_norm=False) | gated)[
            name
        ], 'usual'
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
            f'the position embedding has {length} entries, which are no square grid, and nothing '
            'in the file tells the size of the images'
        ) from None
