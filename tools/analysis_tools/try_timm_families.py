# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Try families of timm's Vision Transformers as students, at tiny size, and tell what they do.

Each model is built with 64 channels and 3 layers for images of 4 x 4 patches, and run: its tokens
are compared with timm's, patches are masked, it is pre-trained for two steps, exported to plain
timm, and its maps go through a pyramid.

    python tools/analysis_tools/try_timm_families.py --out docs/timm_families.md
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from ibot_mm.models import IBOT, SimplePyramid, TimmVisionTransformer
from ibot_mm.models.backbones.create_timm import create_timm_vit

FAMILIES = {
    'ViT (also DINO, MAE, iBOT)': 'vit_small_patch16_224',
    'ViT, patch 8': 'vit_small_patch8_224',
    'ViT, patch 14': 'vit_large_patch14_224',
    'ViT, RMS norm, QK norm, parallel': 'vit_base_patch16_xp_224',
    'ViT, mean of patches': 'vit_base_patch16_gap_224',
    'I-JEPA': 'vit_huge_patch14_gap_224',
    'ViT, registers, mean': 'vit_medium_patch16_reg4_gap_256',
    'ViT, relative positions': 'vit_relpos_small_patch16_224',
    'ViT, axial RoPE': 'vit_small_patch16_rope_224',
    'ViT, mixed RoPE': 'vit_small_patch16_rope_mixed_224',
    'DeiT': 'deit_small_patch16_224',
    'DeiT, distilled': 'deit_small_distilled_patch16_224',
    'DeiT III': 'deit3_small_patch16_224',
    'DINOv2': 'vit_small_patch14_dinov2',
    'DINOv2, registers': 'vit_small_patch14_reg4_dinov2',
    'DINOv2, SwiGLU': 'vit_giant_patch14_reg4_dinov2',
    'DINOv3': 'vit_small_patch16_dinov3',
    'DINOv3, SwiGLU': 'vit_small_plus_patch16_dinov3',
    'BEiT': 'beit_base_patch16_224',
    'BEiT v2': 'beitv2_base_patch16_224',
    'BEiT-3': 'beit3_base_patch16_224',
    'EVA': 'eva_giant_patch14_224',
    'EVA-02': 'eva02_small_patch14_224',
    'EVA-02 CLIP': 'eva02_base_patch16_clip_224',
    'CLIP': 'vit_base_patch16_clip_224',
    'CLIP, quick GELU': 'vit_base_patch16_clip_quickgelu_224',
    'SigLIP': 'vit_base_patch16_siglip_224',
    'AIMv2': 'aimv2_large_patch14_224',
    'Perception Encoder': 'vit_pe_core_base_patch16_224',
    'RADIO': 'vit_base_patch16_radio_v3',
    'Sapiens2': 'vit_base_patch16_sapiens2',
}
REFUSED = [
    'resnet50',
    'convnext_tiny',
    'swin_tiny_patch4_window7_224',
    'hiera_tiny_224',
    'mvitv2_tiny',
    'vit_base_r50_s16_224',
    'xcit_small_12_p16_224',
    'cait_s24_224',
    'samvit_base_patch16',
    'naflexvit_base_patch16_gap',
    'mixer_b16_224',
]
# What a network of 64 channels and 3 layers needs else.
CHANGES = {
    'vit_giant_patch14_reg4_dinov2': dict(mlp_ratio=4),
    'vit_base_patch16_sapiens2': dict(num_kv_heads=2),
}
CHANNELS = 64

PAGE = """# Families of timm

`ibot_mm.TimmVisionTransformer(model_name, ...)` makes a student of any plain Vision Transformer
of timm. This page is the output of `tools/analysis_tools/try_timm_families.py --out
docs/timm_families.md` with timm {timm} and torch {torch}; each model was built at a size of
{channels} channels and 3 layers and run.

{families}

- **[CLS]**: which token stands first, *own* or what timm makes of the patches in its place; then
  the number of further tokens (registers, distillation), which are left out.
- **Positions**: *learned* ones are resized by timm to other sizes, *rotary* ones computed.
  *Relative* ones have one size: local crops have to be of `img_size`, or none are made
  (`num_local_crops=0`).
- **Final norm**: *of pooled* where timm normalizes only what it pools; `fc_norm=False`
  (`use_fc_norm=False` of Eva and Beit) gives the tokens a norm instead.
- **As timm**: largest difference of tokens from timm's own, without masks, for square and, where
  possible, other images.
- **Pre-trained**: two steps of iBOT with masks and, where possible, local crops. All parameters
  had gradients, and pixels under masks did not change the output.
- **Exported**: the teacher's weights went into `timm.create_model(model_name, num_classes=0)`
  with `strict=True`; largest difference of its tokens.
- **Maps**: `out_type='featmap'` through `SimplePyramid`.

## What cannot serve

{refused}
"""


def try_family(model_name: str) -> dict[str, str]:
    """Run one model.

    Args:
        model_name: Of timm.

    Returns:
        A row of the table: column -> what was found.

    Raises:
        RuntimeError: If it does something else than the backbone promises.
    """
    torch.manual_seed(0)
    with torch.device('meta'):
        patch = create_timm_vit(model_name).patch_embed.patch_size[0]
    settings = dict(embed_dim=CHANNELS, depth=3, num_heads=2, img_size=4 * patch)
    settings |= CHANGES.get(model_name, {})
    backbone = perturb(TimmVisionTransformer(model_name, **settings))
    model = backbone.timm_model
    any_size = not model.patch_embed.strict_img_size
    sizes = [(4 * patch, 4 * patch)] + [(2 * patch, 5 * patch)] * any_size
    check_masks(backbone, patch)
    trained = pre_train(model_name, settings, patch, any_size)
    return {
        'Model': f'`{model_name}`',
        'Class': type(model).__name__,
        'Patch': str(patch),
        '[CLS]': describe_tokens(model),
        'Positions': describe_positions(model),
        'Final norm': describe_norm(model),
        'As timm': difference(backbone, model_name, settings, sizes),
        'Pre-trained': 'yes' if any_size else 'yes, without local crops',
        'Exported': difference(trained, model_name, settings, sizes),
        'Maps': describe_maps(model_name, settings, sizes[-1]),
    }


def perturb(model: TimmVisionTransformer) -> TimmVisionTransformer:
    """Move every parameter from its start, so that all have a say."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.1)
    return model.eval()


def describe_tokens(model: Any) -> str:
    """Tell what stands for [CLS], and how many tokens are left out."""
    own = model.cls_token is not None
    pooled = 'attention pooling' if getattr(model, 'attn_pool', None) is not None else 'mean'
    further = model.num_prefix_tokens - own
    return ('own' if own else pooled) + (f' + {further}' if further else '')


def describe_positions(model: Any) -> str:
    """Kinds of position embedding."""
    kinds = {
        'learned': getattr(model, 'pos_embed', None) is not None,
        'rotary': getattr(model, 'rope', None) is not None,
        'relative': model.patch_embed.strict_img_size,
    }
    return ', '.join(kind for kind, there in kinds.items() if there)


def describe_norm(model: Any) -> str:
    """Tell what the norm after the last layer is applied to."""
    if not isinstance(model.norm, nn.Identity):
        return 'of tokens'
    return 'none' if isinstance(model.fc_norm, nn.Identity) else 'of pooled'


def difference(
    backbone: TimmVisionTransformer,
    model_name: str,
    settings: dict,
    sizes: Iterable[tuple[int, int]],
) -> str:
    """Put the weights into plain timm and compare the tokens."""
    options = (
        dict(dynamic_img_size=True) if hasattr(backbone.timm_model, 'dynamic_img_size') else {}
    )
    plain = timm.create_model(model_name, num_classes=0, **options, **settings).eval()
    state = {
        name.removeprefix('timm_model.'): tensor
        for name, tensor in backbone.state_dict().items()
        if name.startswith('timm_model.')
    }
    plain.load_state_dict(state, strict=True)
    worst = 0.0
    for size in sizes:
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            tokens, features = backbone(images)[-1], plain.forward_features(images)
            cls = features[:, 0] if plain.cls_token is not None else plain(images)
        expected = torch.cat([cls[:, None], features[:, plain.num_prefix_tokens :]], dim=1)
        worst = max(worst, float((tokens - expected).abs().max()))
    require(worst < 1e-5, f'tokens of {model_name} differ by {worst:.1g} from those of timm')
    return f'{worst:.0e}' if worst else '0'


def check_masks(backbone: TimmVisionTransformer, patch: int) -> None:
    """See to it that pixels under masks do not change the output, and that masks do."""
    images, masks = torch.randn(2, 3, 4 * patch, 4 * patch), torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[:, 1:3, 0] = True
    hidden = masks.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[:, None]
    changed = torch.where(hidden, torch.randn_like(images), images)
    with torch.no_grad():
        whole, masked, other = backbone(images), backbone(images, masks), backbone(changed, masks)
    name = type(backbone.timm_model).__name__
    require(torch.equal(masked[-1], other[-1]), f'{name} sees what is masked')
    require(not torch.allclose(whole[-1], masked[-1]), f'{name} is not masked')


def pre_train(
    model_name: str, settings: dict, patch: int, local_crops: bool
) -> TimmVisionTransformer:
    """Two steps of the algorithm; gives the teacher's backbone."""
    model = IBOT(
        backbone=dict(
            type='ibot_mm.TimmVisionTransformer',
            model_name=model_name,
            drop_path_rate=0.1,
            **settings,
        ),
        neck=dict(type='ibot_mm.IBOTNeck', in_channels=CHANNELS, num_prototypes=64),
        head=dict(type='ibot_mm.IBOTHead', num_prototypes=64),
    ).train()
    model.teacher.copy_from(model.backbone, model.neck)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-3)
    for _ in range(2):
        inputs = dict(
            global_crops=torch.randn(2, 2, 3, 4 * patch, 4 * patch),
            masks=torch.rand(2, 2, 4, 4) < 0.4,
        )
        if local_crops:
            inputs['local_crops'] = torch.randn(2, 2, 3, 2 * patch, 2 * patch)
        loss = sum_of(model.loss(inputs))
        optimizer.zero_grad()
        loss.backward()
        idle = [name for name, p in trained.items() if p.grad is None]
        require(bool(loss.isfinite()), f'the loss of {model_name} is {loss.item()}')
        require(not idle, f'no gradient of {model_name} for {idle}')
        optimizer.step()
        model.update_teacher(0.9)
    return model.teacher.backbone.eval()


def sum_of(losses: Mapping[str, Tensor]) -> Tensor:
    """Total of the terms of the loss."""
    return torch.stack([term for name, term in losses.items() if name.startswith('loss')]).sum()


def describe_maps(model_name: str, settings: dict, size: tuple[int, int]) -> str:
    """Describe the maps as detectors take them."""
    backbone = TimmVisionTransformer(model_name, mask_token=False, out_type='featmap', **settings)
    with torch.no_grad():
        (features,) = backbone.eval()(torch.randn(1, 3, *size))
        levels = SimplePyramid(CHANNELS, out_channels=8)((features,))
    patch = backbone.timm_model.patch_embed.patch_size[0]
    expected = (1, CHANNELS, size[0] // patch, size[1] // patch)
    require(features.shape == expected, f'maps of {model_name} are {tuple(features.shape)}')
    require(all(x.is_contiguous() for x in (features, *levels)), f'{model_name}: order of a map')
    return 'yes'


def require(condition: bool, what: str) -> None:
    """Stop with a message unless the condition holds."""
    if not condition:
        raise RuntimeError(what)


def try_refused(model_name: str) -> dict[str, str]:
    """Row of a model that cannot serve, with the reason that its user is told."""
    try:
        create_timm_vit(model_name)
    except ValueError as error:
        return {'Model': f'`{model_name}`', 'Reason': str(error).partition('masked: ')[2]}
    raise RuntimeError(f'{model_name} can serve')


def table(rows: Sequence[dict[str, str]]) -> str:
    """Rows in Markdown."""
    lines = [list(rows[0]), ['---'] * len(rows[0]), *(list(row.values()) for row in rows)]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('models', nargs='*', help='of timm (default: one of each family)')
    parser.add_argument('--out', type=Path, help='Markdown file (default: print it)')
    args = parser.parse_args(argv)
    families = {name: name for name in args.models} or FAMILIES
    page = PAGE.format(
        timm=timm.__version__,
        torch=torch.__version__.partition('+')[0],
        channels=CHANNELS,
        families=table([{'Family': title} | try_family(families[title]) for title in families]),
        refused=table([try_refused(name) for name in REFUSED]),
    )
    args.out.write_text(page) if args.out else print(page)


if __name__ == '__main__':
    main()
