# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights of Hugging Face's transformers: the same tokens here as there."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers_classes import classes_of

SMALL = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=8)
SCALED = dict(layer_scale_init_value=0.1)
EPS = dict(norm_cfg=dict(type='LN', eps=1e-12))  # where theirs differs, no matter at size


def build(kind, size=32, **kwargs):
    """A network of a few thousand weights, without pooling head."""
    configuration, model = classes_of(kind)
    config = configuration(image_size=size, **SMALL, **kwargs)
    pooling = {} if 'Dino' in kind or 'DINO' in kind else dict(add_pooling_layer=False)
    return model(config, **pooling)


def tokens_of(model):
    """Tokens as this project's backbones give them, without registers."""
    registers = getattr(model.config, 'num_register_tokens', 0)

    def tokens(images):
        hidden = model(images).last_hidden_state
        return torch.cat([hidden[:, :1], hidden[:, 1 + registers :]], dim=1)

    return tokens


# Options there and here.
MODELS = {
    'ViT': (dict(intermediate_size=64), EPS),
    'ViT without biases': (dict(intermediate_size=64, qkv_bias=False), EPS),
    'Dinov2': (dict(mlp_ratio=2), SCALED),
    'Dinov2 gated': (
        dict(mlp_ratio=2, use_swiglu_ffn=True),
        SCALED | dict(layer_cfgs=dict(ffn_type='swiglu_fused')),
    ),
    'Dinov2WithRegisters': (
        dict(mlp_ratio=2, num_register_tokens=3),
        SCALED | dict(num_registers=3),
    ),
    'DINOv3ViT': (
        dict(intermediate_size=64, num_register_tokens=4),
        SCALED | dict(num_registers=4, rotary=True, norm_cfg=dict(type='LN', eps=1e-5)),
    ),
    'DINOv3ViT gated': (
        dict(intermediate_size=64, num_register_tokens=4, use_gated_mlp=True, hidden_act='silu'),
        SCALED
        | dict(
            num_registers=4,
            rotary=True,
            norm_cfg=dict(type='LN', eps=1e-5),
            arch=dict(feedforward_channels=96),
            layer_cfgs=dict(ffn_type='swiglu_fused'),
        ),
    ),
}


SQUARE_ONLY = ('Dinov2', 'Dinov2 gated', 'Dinov2WithRegisters')  # as transformers resizes them


@pytest.mark.parametrize(
    'name, size',
    [(n, s) for n in MODELS for s in ((32, 32), (24, 40)) if s == (32, 32) or n not in SQUARE_ONLY],
)
def test_folder(name, size, perturb, load, assert_same, tmp_path):
    theirs, ours = MODELS[name]
    native = 32 if name.startswith('DINOv3') else size  # rotary: any size
    source = perturb(build(name.split()[0], native, **theirs))
    source.save_pretrained(tmp_path)
    model, report = load(tmp_path, img_size=size, **ours)
    assert_same(model, tokens_of(source), size)
    assert report.format.startswith('transformers') and not report.notes and not report.new
    assert bool(report.zero) == ('without' in name)


def names_of_version_5(name):
    """What transformers 5 calls the parameters in memory, and stores if it is told to."""
    table = {
        'attention.attention.query': 'attention.q_proj',
        'attention.attention.key': 'attention.k_proj',
        'attention.attention.value': 'attention.v_proj',
        'attention.output.dense': 'attention.o_proj',
    }
    if 'layernorm_before' in name or 'norm1' not in name:
        table |= {'intermediate.dense': 'mlp.fc1', 'output.dense': 'mlp.fc2'}
    for old, new in table.items():
        name = name.replace(old, new)
    return name


@pytest.mark.parametrize('name', [name for name in MODELS if name != 'ViT without biases'])
def test_names_of_version_5(name, perturb, load, assert_same):
    theirs, ours = MODELS[name]
    source = perturb(build(name.split()[0], **theirs))
    state = {names_of_version_5(n): t for n, t in source.state_dict().items()}
    if name == 'ViT':
        state = {n.replace('encoder.layer.', 'layers.'): t for n, t in state.items()}
    if name.startswith('DINOv3'):
        state = {f'model.{n}' if n.startswith('layer.') else n: t for n, t in state.items()}
    for n in [n for n in state if 'weights_' in n]:
        tensor = state.pop(n)
        if 'weights_out' in n:
            state[n.replace('weights_out', 'down_proj')] = tensor
        else:
            for part, half in zip(('gate_proj', 'up_proj'), tensor.chunk(2)):
                state[n.replace('weights_in', part)] = half
    model, report = load(state, **ours)
    assert_same(model, tokens_of(source), (32, 32))
    assert report.format.endswith('version 5')


@pytest.mark.parametrize('shared', [False, True])
def test_beit(shared, perturb, load, assert_same, tmp_path):
    source = build(
        'Beit',
        intermediate_size=64,
        use_relative_position_bias=not shared,
        use_shared_relative_position_bias=shared,
    )
    perturb(source).save_pretrained(tmp_path)
    model, _ = load(tmp_path, 'BEiTViT', final_norm=False, **EPS)
    assert_same(model, tokens_of(source), (32, 32))


def test_classifier_and_mae(perturb, load, assert_same, tmp_path):
    """The network lies under a prefix, beside a head or a decoder."""
    config = dict(image_size=32, intermediate_size=64) | SMALL
    source = perturb(
        transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=3, **config))
    )
    source.save_pretrained(tmp_path)
    model, report = load(tmp_path, **EPS)
    assert_same(model, tokens_of(source.vit), (32, 32))
    assert report.network == 'vit.'
    assert report.left_out == {'heads and other networks': ['classifier.*'] * 2}

    decoder = dict(
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
        mask_ratio=0.0,
    )
    mae = perturb(transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**config, **decoder)))
    mae.save_pretrained(tmp_path / 'mae')
    model, _ = load(tmp_path / 'mae', **EPS)
    images = torch.randn(1, 3, 32, 32)
    # Noise in increasing order keeps the order of patches.
    hidden = mae.vit(images, noise=torch.arange(16.0)[None]).last_hidden_state
    torch.testing.assert_close(model(images)[-1], hidden, atol=1e-5, rtol=1e-5)


def test_distilled_deit(perturb, load, tmp_path):
    source = build('DeiT', intermediate_size=64)
    perturb(source).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match='has a distillation token'):
        load(tmp_path)


def test_single_file_and_shards(perturb, load, assert_same, tmp_path):
    source = perturb(build('ViT', intermediate_size=64))
    source.save_pretrained(tmp_path, max_shard_size='20KB')
    shards = sorted(tmp_path.glob('model-*.safetensors'))
    assert len(shards) > 2
    assert_same(load(tmp_path, **EPS)[0], tokens_of(source), (32, 32))

    whole = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    save_file(whole, tmp_path / 'whole.pth')  # known by its content
    assert_same(load(tmp_path / 'whole.pth', **EPS)[0], tokens_of(source), (32, 32))

    shards[1].unlink()
    with pytest.raises(ValueError, match=f"names '{shards[1].name}', which is not there"):
        load(tmp_path)


def test_settings_that_weights_do_not_show(perturb, load, tmp_path):
    source = build('ViT', intermediate_size=64, layer_norm_eps=1e-3)
    perturb(source).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match='2 attention heads, the backbone 4: set num_heads=2'):
        load(tmp_path, arch=dict(num_heads=4))
    _, report = load(tmp_path)
    assert "norm_cfg=dict(type='LN', eps=0.001)" in report.notes[0]
    assert json.loads((tmp_path / 'config.json').read_text())['num_attention_heads'] == 2
