# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Tensors and metadata that make no sense end in one clear error, in every format."""

import random

import pytest
import timm
import torch
import transformers
from torch import nn

from ibot_mm.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_weights,
    rebuild_backbone,
    verify,
    verify_checkpoint,
)
from ibot_mm.models import (
    MaskedSwinTransformer,
    MaskedVisionTransformer,
    TimmVisionTransformer,
    WindowedVisionTransformer,
)

pytestmark = pytest.mark.slow

TIMM = dict(embed_dim=16, depth=2, num_heads=2, img_size=16, patch_size=4)
ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
VIT = dict(arch=ARCH, img_size=16, patch_size=4)
SWIN = dict(arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2]), img_size=16, window_size=2)
HUGGING_FACE = dict(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
    image_size=16, patch_size=4,
)  # fmt: skip
# Names of timm, of which some have parts of their own, and others.
SOURCES = {
    **{
        name: lambda name=name: timm.create_model(name, num_classes=2, **TIMM)
        for name in (
            'vit_tiny_patch16_224',
            'vit_small_patch14_reg4_dinov2',
            'vit_small_patch16_dinov3',
            'beitv2_base_patch16_224',
            'vit_base_patch16_clip_224',
        )
    },
    'ViT': lambda: transformers.ViTModel(transformers.ViTConfig(**HUGGING_FACE)),
    'DINOv3ViT': lambda: transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(**HUGGING_FACE, num_register_tokens=2)
    ),
    'CLIP': lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**HUGGING_FACE)),
    'swin of timm': lambda: timm.models.SwinTransformer(
        embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=2, img_size=16
    ),
    'ours': lambda: MaskedVisionTransformer(**VIT),
    'our swin': lambda: MaskedSwinTransformer(**SWIN),
}
JSON = (
    dict(num_attention_heads='x'),
    dict(num_attention_heads=[1, 2], hidden_act=None, image_size=[16]),
    dict(num_attention_heads=0, layer_norm_eps='a', image_size='a'),
    dict(num_attention_heads=2, model_type='dinov3_vit', rope_parameters=3, rope_theta='x'),
    dict(architecture='nope', model_args=3),
    dict(architecture='vit_tiny_patch16_224', model_args=dict(unknown=1)),
    dict(model_cfg=dict(vision_cfg=dict(width=16, head_width=0))),
    dict(model_cfg=dict(vision_cfg=dict(width='x'))),
)
CONFIGS = (
    'dict(type=3, arch=5, norm_cfg=2)',
    "dict(type='V', arch=dict(num_heads=None), layer_cfgs=3, img_size=(1,))",
    "dict(type='V', norm_cfg=dict(eps='a'), layer_cfgs=dict(act_cfg=dict(type=4)))",
    "dict(model_name=5, img_size='x')",
)
ASSUMED = (
    dict(num_heads='2'),
    dict(num_heads=0),
    dict(num_heads=True),
    dict(norm_eps='a'),
    dict(activation=3),
    dict(img_size='x'),
    dict(img_size=None),
)
CHANGES = (
    lambda t: t.flatten(),
    lambda t: t[None],
    lambda t: t.transpose(0, -1) if t.ndim > 1 else t[:-1],
    lambda t: torch.zeros(()),
    lambda t: torch.zeros(0),
    lambda t: torch.cat([t, t]),
    lambda t: t[:1],
    lambda t: (10 * t).to(torch.int8),
    lambda t: t.to(torch.complex64),
)


@pytest.fixture(scope='module')
def targets() -> list[nn.Module]:
    options = dict(rotary=True, num_registers=4, layer_scale_init_value=0.1)
    return [
        MaskedVisionTransformer(**VIT),
        MaskedVisionTransformer(**VIT, **options),
        WindowedVisionTransformer(**VIT),
        MaskedSwinTransformer(**SWIN),
        TimmVisionTransformer('vit_tiny_patch16_224', **TIMM),
        TimmVisionTransformer('beitv2_base_patch16_224', **TIMM),
    ]


def use(checkpoint, assume, targets, monkeypatch):
    """All that is done with a checkpoint; errors must be of one kind."""
    monkeypatch.setattr(Checkpoint, 'open', lambda location: checkpoint)
    uses = [lambda: rebuild_backbone(checkpoint, assume=assume), lambda: verify_checkpoint('x')]
    uses += [lambda t=t: load_weights(t, checkpoint, strict=False, assume=assume) for t in targets]
    for function in uses:
        try:
            function()
        except CheckpointError:
            pass


@pytest.fixture(autouse=True)
def no_configs(tmp_path, monkeypatch):
    monkeypatch.setattr(verify, 'CONFIGS', tmp_path / 'none')
    verify.backbone_configs.cache_clear()
    yield
    verify.backbone_configs.cache_clear()


@pytest.mark.parametrize('source', SOURCES)
def test_tensors_of_no_network(source, targets, monkeypatch):
    """A dozen kinds of parameters, each with one change; by chance which."""
    chance = random.Random(source)
    state = dict(SOURCES[source]().state_dict())
    kinds = {n.replace('.1.', '.0.'): n for n, tensor in state.items() if tensor.ndim}
    for name in chance.sample(sorted(kinds.values()), 12):
        changed = state | {name: chance.choice(CHANGES)(state[name])}
        use(Checkpoint('x', changed), dict(num_heads=2), targets[:3:2] + targets[3:5], monkeypatch)


@pytest.mark.parametrize('source', ['vit_tiny_patch16_224', 'ViT', 'swin of timm'])
def test_metadata_of_no_network(source, targets, monkeypatch):
    state = SOURCES[source]().state_dict()
    for config in JSON:
        use(Checkpoint('x', state, config=config), None, targets, monkeypatch)
    for text in CONFIGS:
        meta = dict(cfg=f'model = dict(backbone={text})')
        use(Checkpoint('x', state, meta), None, targets, monkeypatch)


@pytest.mark.parametrize('assume', ASSUMED, ids=str)
def test_what_is_assumed_has_a_kind(assume, targets):
    checkpoint = Checkpoint('x', SOURCES['ours']().state_dict())
    for function in (rebuild_backbone, lambda c, **k: load_weights(targets[0], c, **k)):
        with pytest.raises(CheckpointError, match=f'assume: {next(iter(assume))} cannot be'):
            function(checkpoint, assume=assume)


def test_whole_numbers_are_no_weights(targets):
    """As of quantized networks, which would be taken for what they stand for."""
    state = SOURCES['ours']().state_dict()
    name = 'layers.0.attn.qkv.weight'
    state[name] = (100 * state[name]).to(torch.int8)
    with pytest.raises(CheckpointError, match=f'without a place: {name.replace("0", ".")}'):
        load_weights(targets[0], Checkpoint('x', state))
