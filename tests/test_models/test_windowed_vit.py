# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch
import torch.nn.functional as F

from ibot_mm.functional.rotary_embedding import rotary_angles, rotate
from ibot_mm.models import MaskedVisionTransformer, WindowedVisionTransformer

TINY = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
rotary = pytest.mark.parametrize('rotary', [False, True], ids=['learned', 'rotary'])


def build(**kwargs):
    torch.manual_seed(0)
    defaults = dict(arch=TINY, img_size=32, patch_size=8, window_size=3, global_indices=[1, 3])
    model = WindowedVisionTransformer(**(defaults | kwargs))
    model.init_weights()
    for parameter in model.layers.parameters():  # large enough for attention to differ
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def same_window(grid, window):
    """(H * W, H * W): whether two patches share a window."""
    rows, columns = torch.meshgrid(*(torch.arange(side) // window for side in grid), indexing='ij')
    number = (rows * 1000 + columns).flatten()
    return number[:, None] == number


def masked_layer(layer, tokens, grid, window, angles):
    """A layer over the padded map, in which other windows are masked."""
    height, width = (-(-side // window) * window for side in grid)

    def pad(values):
        maps = values.unflatten(-2, grid)
        return F.pad(maps, (0, 0, 0, width - grid[1], 0, height - grid[0])).flatten(-3, -2)

    qkv = layer.attn.qkv(pad(layer.ln1(tokens))).unflatten(2, (3, layer.attn.num_heads, -1))
    query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
    if angles is not None:
        query, key = rotate(query, pad(angles)), rotate(key, pad(angles))
    mask = same_window((height, width), window)
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    output = layer.attn.proj(output.transpose(1, 2).flatten(2))
    output = output.unflatten(1, (height, width))[:, : grid[0], : grid[1]].flatten(1, 2)
    return layer.ffn(layer.ln2(tokens + output), identity=tokens + output)


@rotary
@pytest.mark.parametrize('grid', [(6, 6), (6, 3), (5, 7), (4, 10)], ids=str)
def test_windows_equal_a_mask(grid, rotary):
    model = build(rotary=rotary).eval()
    angles = rotary_angles(grid, 8) if rotary else None
    tokens = torch.randn(2, grid[0] * grid[1], 16)
    for index in (0, 2):
        actual = model._forward_layer(index, tokens, grid, angles)
        expected = masked_layer(model.layers[index], tokens, grid, 3, angles)
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
        everywhere = model._forward_layer(index + 1, tokens, grid, angles)
        assert not torch.allclose(actual, everywhere, atol=0.1)


@rotary
@pytest.mark.parametrize('size', [(32, 32), (24, 48), (20, 13)], ids=str)
def test_a_window_over_the_whole_map_is_global(size, rotary):
    windowed = build(window_size=6, rotary=rotary).eval()
    everywhere = build(global_indices=[0, 1, 2, 3], rotary=rotary).eval()
    images = torch.randn(2, 3, *size)
    torch.testing.assert_close(windowed(images), everywhere(images), atol=1e-5, rtol=1e-5)


def test_no_layer_sees_the_whole_map():
    model = build(global_indices=[]).eval()
    assert model.global_indices == []
    images = torch.randn(1, 3, 56, 40)
    changed = images.clone()
    changed[:, :, 8:16, 8:16] += 1  # in the first window
    (difference,) = ((a - b).abs().sum(1)[0] > 0 for a, b in zip(model(images), model(changed)))
    expected = torch.zeros(7, 5, dtype=torch.bool)
    expected[:3, :3] = True
    assert torch.equal(difference, expected)


@rotary
def test_what_all_layers_see_is_the_plain_network(rotary):
    model = build(global_indices=[0, 1, 2, 3], rotary=rotary).eval()
    plain = MaskedVisionTransformer(
        arch=TINY,
        img_size=32,
        patch_size=8,
        mask_token=False,
        with_cls_token=False,
        final_norm=False,
        rotary=rotary,
    ).eval()
    plain.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 32, 48)
    (features,), (tokens,) = model(images), plain(images)
    assert features.shape == (2, 16, 4, 6)
    torch.testing.assert_close(features.flatten(2).mT, tokens)


def test_a_windowed_layer_keeps_to_its_windows():
    model = build(out_indices=[0, 1]).eval()
    images = torch.randn(1, 3, 56, 40)
    changed = images.clone()
    changed[:, :, 8:16, 8:16] += 1  # the second patch of the second row: first window
    windowed, everywhere = (
        (a - b).abs().sum(1)[0] > 0 for a, b in zip(model(images), model(changed), strict=True)
    )
    expected = torch.zeros(7, 5, dtype=torch.bool)
    expected[:3, :3] = True
    assert torch.equal(windowed, expected) and everywhere.all()


def test_drop_path_drops_whole_images():
    model = build(drop_path_rate=0.5, drop_rate=0.0).train()
    layer = model.layers[2]
    layer.attn.out_drop.drop_prob = 0.5
    for parameter in layer.ffn.parameters():
        torch.nn.init.zeros_(parameter)
    tokens = torch.randn(16, 30, 16)
    changes = (model._forward_layer(2, tokens, (5, 6), None) - tokens).abs().sum(-1) > 0
    assert torch.equal(changes.all(1), changes.any(1))
    assert 0 < changes.all(1).sum() < 16


@rotary
def test_activation_checkpointing_changes_memory_only(rotary):
    gradients = []
    for with_cp in (False, True):
        model = build(with_cp=with_cp, rotary=rotary, drop_path_rate=0.2).train()
        torch.manual_seed(1)
        model(torch.randn(2, 3, 40, 56))[-1].square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    'arch, expected', [('base', [2, 5, 8, 11]), ('large', [5, 11, 17, 23])], ids=str
)
def test_vitdets_choice_is_the_default(arch, expected):
    with torch.device('meta'):
        model = WindowedVisionTransformer(arch=arch)
    assert model.global_indices == expected and model.window_size == 14
    assert model.out_channels == [model.embed_dims]


def test_checkpoints_of_the_plain_network():
    plain = MaskedVisionTransformer(arch=TINY, img_size=32, patch_size=8).state_dict()
    model = build(final_norm=True)
    missing, unexpected = model.load_state_dict(plain, strict=False)
    assert missing == [] and sorted(unexpected) == ['cls_token', 'mask_token']
    assert torch.equal(model.pos_embed, plain['pos_embed'][:, 1:])


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(window_size=0), 'window_size must be at least 1 patch, got 0'),
        (dict(global_indices=[4]), r'global_indices=\[4\] of a network with 4 layers'),
        (dict(num_registers=2), 'leave num_registers out'),
        (dict(with_cls_token=True), 'leave with_cls_token out'),
        (dict(out_indices=7), r'out_indices=\[7\]'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_images_smaller_than_a_patch():
    with pytest.raises(ValueError, match='smaller than one patch'):
        build()(torch.randn(1, 3, 7, 32))
