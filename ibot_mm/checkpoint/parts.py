# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Parts that one ViT has and another has not, and what to do about it."""

from collections.abc import Container
from dataclasses import dataclass

from .formats import match


@dataclass(frozen=True)
class Part:
    """Parameters that a network has or has not.

    Args:
        names: Templates of our names.
        title: What they are, for messages.
        surplus: What to do if the checkpoint has them and the backbone does not; None where they
            can be left out, since the backbone is meant to do without.
        lacking: What to do if the backbone has them and the checkpoint does not; None where they
            can start new, empty where ``surplus`` of another part says it.
    """

    names: tuple[str, ...]
    title: str
    surplus: str | None
    lacking: str | None


PARTS = (
    Part(('cls_token',), 'a [CLS] token', None, 'set with_cls_token=False'),
    Part(
        ('dist_token',),
        'a distillation token (DeiT)',
        'take weights without distillation, or mmpretrain.DistilledVisionTransformer as backbone',
        'take weights with distillation, or mmpretrain.VisionTransformer as backbone',
    ),
    Part(
        ('register_tokens',),
        'register tokens',
        "set num_registers={number} (an option of ibot_mm's backbones)",
        'set num_registers=0',
    ),
    Part(('mask_token',), 'a mask token', None, None),
    Part(
        ('pre_norm.{leaf}',), 'a norm before the layers', 'set pre_norm=True', 'set pre_norm=False'
    ),
    Part(
        ('layers.{layer}.attn.gamma1.weight', 'layers.{layer}.ffn.gamma2.weight'),
        'layer scale',
        'set layer_scale_init_value=1e-5',
        'set layer_scale_init_value=0.',
    ),
    Part(
        ('layers.{layer}.attn.qkv.bias',),
        'biases of queries and values',
        'set qkv_bias=True',
        'set qkv_bias=False',
    ),
    Part(
        ('patch_embed.projection.bias',),
        'a bias of the patch embedding',
        'set patch_cfg=dict(bias=True)',
        'set patch_cfg=dict(bias=False)',
    ),
    Part(
        ('layers.{layer}.ffn.layers.0.0.{leaf}', 'layers.{layer}.ffn.layers.1.{leaf}'),
        'a plain feed-forward network',
        "set layer_cfgs=dict(ffn_type='origin')",
        '',
    ),
    Part(
        ('layers.{layer}.ffn.w12.{leaf}', 'layers.{layer}.ffn.w3.{leaf}'),
        'a gated feed-forward network (SwiGLU)',
        "set layer_cfgs=dict(ffn_type='swiglu_fused')",
        '',
    ),
    Part(('ln1.{leaf}',), 'a final norm', None, 'set final_norm=False'),
    Part(('ln2.{leaf}',), 'a norm of the mean of the patches', None, None),
)


def part_of(name: str) -> Part | None:
    """The part that a parameter, by our name, belongs to; None for what every ViT has."""
    return next((p for p in PARTS if any(match(n, name) is not None for n in p.names)), None)


def is_left_out(name: str, target: Container[str]) -> bool:
    """Whether a parameter of a checkpoint can be left out.

    Args:
        name: Our name of it; the backbone has none of that name.
        target: Our names of the backbone's parameters. One without [CLS] is meant for patches
            only, and registers and distillation token are left out with it.
    """
    if name in ('register_tokens', 'dist_token') and 'cls_token' not in target:
        return True
    part = part_of(name)
    return part is not None and part.surplus is None
