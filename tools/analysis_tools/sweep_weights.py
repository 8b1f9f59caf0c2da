# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Load tiny networks of timm and transformers, and write what became of them as a page of the docs.

    python tools/analysis_tools/sweep_weights.py --out docs/weights_sweep.md

Every plain Vision Transformer of timm is built with 32 channels and 2 layers and random weights,
and so is every ViT of transformers. Its weights are read from a bare state dict, and with the JSON
that the library stores beside them. A backbone of this project must give equal tokens, or the
weights must be refused by name; anything else ends the tool with an error.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import transformers
from torch import Tensor, nn

from ibot_mm.checkpoint import Checkpoint, CheckpointError, rebuild_backbone

TOLERANCE = 1e-5
LOADED = 'loaded'
CHANNELS, DEPTH, HEADS = 32, 2, 2
MODULES = ('vision_transformer', 'vision_transformer_relpos', 'deit', 'eva', 'beit')  # of timm
_TINY: dict[str, Any] = dict(
    hidden_size=CHANNELS,
    num_hidden_layers=DEPTH,
    num_attention_heads=HEADS,
    intermediate_size=64,
    image_size=32,
    patch_size=8,
)
# Class of transformers and settings. Of those that change the function without a trace in the
# tensors only the JSON can tell.
OF_TRANSFORMERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ('ViT', {}),
    ('ViT', dict(hidden_act='quick_gelu')),
    ('ViT', dict(hidden_act='relu')),
    ('ViT', dict(hidden_act='silu')),
    ('ViT', dict(layer_norm_eps=1e-3)),
    ('DeiT', {}),
    ('ViTMSN', {}),
    ('ViTMAE', dict(mask_ratio=0.0)),
    ('IJepa', {}),
    ('Beit', {}),
    ('Beit', dict(use_relative_position_bias=True)),
    ('Beit', dict(use_absolute_position_embeddings=True, use_mask_token=True)),
    ('Data2VecVision', {}),
    ('Dinov2', {}),
    ('Dinov2', dict(use_swiglu_ffn=True)),
    ('Dinov2', dict(hidden_act='gelu_new')),
    ('Dinov2WithRegisters', {}),
    ('DINOv3ViT', dict(num_register_tokens=4)),
    ('DINOv3ViT', dict(num_register_tokens=4, rope_theta=10.0)),
    ('DINOv3ViT', dict(num_register_tokens=4, use_gated_mlp=True, hidden_act='silu')),
    ('DINOv3ViT', dict(num_register_tokens=4, use_gated_mlp=True, hidden_act='gelu')),
    ('CLIPVision', {}),
    ('CLIPVision', dict(hidden_act='gelu')),
    ('SiglipVision', {}),
    ('SiglipVision', dict(hidden_act='gelu')),
    ('Yolos', dict(image_size=[32, 32])),
    ('VitDet', dict(pretrain_image_size=32, window_block_indices=[0], window_size=2)),
    ('VitDet', dict(pretrain_image_size=32, use_relative_position_embeddings=True)),
    ('SamVision', dict(global_attn_indexes=[1], window_size=2, mlp_dim=64, output_channels=8)),
    ('InternVLVision', dict(image_size=[32, 32], patch_size=[8, 8])),
    ('Siglip2Vision', {}),
    ('VideoMAE', dict(num_frames=2)),
    ('Aimv2Vision', {}),
)


@dataclass(frozen=True)
class Outcome:
    """What became of one network.

    Args:
        name: Model of timm, or class of transformers with its settings.
        kind: Class.
        bare: 'loaded', or why not, from a bare state dict.
        told: The same, with the JSON that the library stores beside it.
    """

    name: str
    kind: str
    bare: str
    told: str


def sweep_timm(names: Iterable[str] | None = None) -> list[Outcome]:
    """Load every plain Vision Transformer of timm, tiny.

    Args:
        names: Models. Defaults to None, all.
    """
    outcomes = []
    for name in names or [n for module in MODULES for n in timm.list_models(module=module)]:
        model, settings = _tiny_timm(name)
        kind = type(model).__name__
        state = {n: t.clone() for n, t in model.state_dict().items()}
        json = dict(architecture=name, model_args=settings)

        def tokens(images: Tensor, model: Any = model) -> Tensor:
            found = model.forward_features(images)
            own = int(model.cls_token is not None)
            return torch.cat([found[:, :own], found[:, model.num_prefix_tokens :]], dim=1)

        size = model.patch_embed.img_size
        outcomes.append(Outcome(name, kind, *(_try(state, j, tokens, size) for j in ({}, json))))
    return outcomes


def _tiny_timm(name: str) -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(0)
    found = re.search(r'patch(\d+)', name)
    patch = int(found[1]) if found else 16
    settings: dict[str, Any] = dict(
        embed_dim=CHANNELS, depth=DEPTH, num_heads=HEADS, img_size=4 * patch
    )
    if 'sapiens2' in name:
        settings['num_kv_heads'] = HEADS
    model = timm.create_model(name, num_classes=0, **settings)
    return _perturb(model), settings


def sweep_transformers() -> list[Outcome]:
    """Load every ViT of transformers, tiny."""
    outcomes = []
    for kind, settings in OF_TRANSFORMERS:
        if not hasattr(transformers, f'{kind}Model'):
            continue
        torch.manual_seed(0)
        ratio = dict(mlp_ratio=2) if kind.startswith(('Dinov2', 'VitDet')) else {}
        options = _TINY | ratio | settings
        config = getattr(transformers, f'{kind}Config')(**options)
        model = _perturb(getattr(transformers, f'{kind}Model')(config))
        state = {n: t.clone() for n, t in model.state_dict().items()}
        words = ', '.join(f'{key}={value!r}' for key, value in settings.items())
        tokens = _tokens_of_transformers(model)
        told = _try(state, config.to_dict(), tokens, (32, 32))
        traceless = {'hidden_act', 'rope_theta', 'layer_norm_eps'} & {*settings}
        bare = 'not tried' if traceless else _try(state, {}, tokens, (32, 32))
        outcomes.append(Outcome(f'{kind}({words})', f'{kind}Model', bare, told))
    return outcomes


def _tokens_of_transformers(model: Any) -> Callable[[Tensor], Tensor]:
    def tokens(images: Tensor) -> Tensor:
        noise = dict(noise=torch.arange(16.0)[None]) if 'MAE' in type(model).__name__ else {}
        found = model(images, **noise).last_hidden_state
        if hasattr(model, 'vision_model'):  # which normalizes only what it pools
            found = (
                model.vision_model.post_layernorm(found)
                if 'CLIP' in type(model).__name__
                else found
            )
        registers = getattr(model.config, 'num_register_tokens', 0)
        return torch.cat([found[:, :1], found[:, 1 + registers :]], dim=1)

    return tokens


def _perturb(model: Any) -> Any:
    """Move every parameter from its start, so that all have a say."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.3)
    return model.eval()


@torch.no_grad()
def _try(
    state: Mapping[str, Tensor],
    json: Mapping[str, Any],
    tokens: Callable[[Tensor], Tensor],
    size: tuple[int, int],
) -> str:
    """Load weights and compare tokens.

    Raises:
        RuntimeError: If they are loaded without an error and the tokens differ.
    """
    heads = {} if json else dict(num_heads=HEADS)  # which no bare file tells
    try:
        backbone, report = rebuild_backbone(Checkpoint('weights', state, {}, json), assume=heads)
    except CheckpointError as error:
        return str(error).removeprefix('weights cannot be used: ').split('\n')[0]
    torch.manual_seed(1)
    images = torch.randn(1, 3, *size)
    expected, found = tokens(images), backbone(images)[-1]
    if expected.shape != found.shape:
        raise RuntimeError(f'shapes differ: {tuple(found.shape)} for {tuple(expected.shape)}')
    worst = float((expected - found).abs().max())
    if worst > TOLERANCE * max(1.0, float(expected.abs().max())):
        raise RuntimeError(f'loaded without a word, and tokens differ by {worst:.1g}')
    return LOADED


PAGE = """# What is loaded, and what is refused

The output of `tools/analysis_tools/sweep_weights.py --out docs/weights_sweep.md` with timm {timm},
transformers {transformers} and torch {torch}. Each network was built with {channels} channels and
{depth} layers and random weights, which were read from a bare state dict, and with the JSON that
its library stores beside it. *Loaded* means that a backbone of this project gave its tokens, to
1e-5 of the largest. All else is refused with the words in the table; `assume=dict(...)` of
`ibot_mm.Pretrained` tells what a bare file does not. A model that is refused here still serves as
`ibot_mm.TimmVisionTransformer` ([families](timm_families.md)).

## timm

{timm_table}

## transformers

{transformers_table}
"""


def table(outcomes: Sequence[Outcome]) -> str:
    """One row for all networks of a class that had the same fate, in Markdown."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for outcome in outcomes:
        rows.setdefault((outcome.kind, outcome.bare, outcome.told), []).append(outcome.name)
    lines = ['| Class | Bare file | With JSON | Networks |', '| --- | --- | --- | --- |']
    for (kind, bare, told), names in rows.items():
        same = 'the same' if told == bare and told != LOADED else told
        listed = ', '.join(f'`{name}`' for name in names)
        lines.append(f'| {kind} | {bare} | {same} | {listed} |'.replace('|  |', '| |'))
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, help='Markdown file (default: print it)')
    args = parser.parse_args(argv)
    page = PAGE.format(
        timm=timm.__version__,
        transformers=transformers.__version__,
        torch=torch.__version__.partition('+')[0],
        channels=CHANNELS,
        depth=DEPTH,
        timm_table=table(sweep_timm()),
        transformers_table=table(sweep_transformers()),
    )
    args.out.write_text(page) if args.out else print(page)


if __name__ == '__main__':
    main()
