# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from mmpretrain.models import ResNet, SwinTransformer, VisionTransformer
from skimage import data
from torch import Tensor, nn

from ibot_mm.functional.rotary_embedding import rotary_angles, rotate
from ibot_mm.models import MaskedVisionTransformer
from ibot_mm.visualization import cls_attention, draw_attention, save_attention
from ibot_mm.visualization.style import COLORS

ARCH = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)


@pytest.fixture
def backbone() -> nn.Module:
    torch.manual_seed(0)
    backbone = VisionTransformer(ARCH, img_size=32, patch_size=8)
    for layer in backbone.layers:
        layer.attn.qkv.weight.data *= 4  # far from uniform
    backbone.eval()
    return backbone


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def test_equals_definition(backbone, images):
    tokens: list[Tensor] = []
    backbone.layers[-1].ln1.register_forward_hook(lambda *args: tokens.append(args[-1]))
    maps = cls_attention(backbone, images)
    assert maps.shape == (2, 3, 4, 6)

    attention = backbone.layers[-1].attn
    weight, bias = attention.qkv.weight, attention.qkv.bias
    for head in range(3):
        rows = slice(8 * head, 8 * head + 8)
        query = tokens[0][:, 0] @ weight[:24][rows].T + bias[:24][rows]  # (B, 8)
        key = tokens[0] @ weight[24:48][rows].T + bias[24:48][rows]  # (B, 1 + N, 8)
        weights = (key @ query[..., None] / 8**0.5).softmax(dim=1)[..., 0]
        torch.testing.assert_close(maps[:, head].flatten(1), weights[:, 1:])
        assert ((weights[:, 0] + maps[:, head].sum(dim=(1, 2))) - 1).abs().max() < 1e-5


def test_maps_reproduce_the_layer(backbone, images):
    """The layer's own output for [CLS] is the sum of the values weighted by the maps."""
    seen: dict[str, Tensor] = {}
    attention = backbone.layers[-1].attn
    attention.qkv.register_forward_hook(lambda *args: seen.update(qkv=args[-1]))
    attention.proj.register_forward_pre_hook(lambda module, args: seen.update(mixed=args[0]))
    maps = cls_attention(backbone, images).flatten(2)  # (B, heads, N)
    weights = torch.cat([1 - maps.sum(dim=2, keepdim=True), maps], dim=2)
    values = seen['qkv'][..., 48:].unflatten(2, (3, 8))
    mixed = torch.einsum('bhn,bnhd->bhd', weights, values).flatten(1)
    torch.testing.assert_close(mixed, seen['mixed'][:, 0], atol=1e-5, rtol=1e-4)


def test_registers_are_no_patches(images):
    torch.manual_seed(0)
    backbone = MaskedVisionTransformer(ARCH, img_size=32, patch_size=8, num_registers=2).eval()
    seen: list[Tensor] = []
    backbone.layers[-1].attn.qkv.register_forward_hook(lambda *args: seen.append(args[-1]))
    maps = cls_attention(backbone, images)
    query, key, _ = seen[0].unflatten(2, (3, 3, 8)).unbind(2)
    weights = torch.einsum('bhd,bnhd->bhn', query[:, 0], key).div(8**0.5).softmax(dim=-1)
    torch.testing.assert_close(maps.flatten(2), weights[..., 3:])  # behind [CLS] and registers


def test_rotary_positions_turn_queries_and_keys(images):
    torch.manual_seed(0)
    backbone = MaskedVisionTransformer(
        ARCH, img_size=32, patch_size=8, rotary=True, num_registers=1
    ).eval()
    backbone.layers[-1].attn.qkv.weight.data *= 4
    seen: list[Tensor] = []
    backbone.layers[-1].attn.qkv.register_forward_hook(lambda *args: seen.append(args[-1]))
    maps = cls_attention(backbone, images)
    query, key, _ = seen[0].unflatten(2, (3, 3, 8)).permute(2, 0, 3, 1, 4)
    turned = rotate(key, rotary_angles((4, 6), 8)[None])  # [CLS] has no place: not turned
    weights = torch.einsum('bhd,bhnd->bhn', query[:, :, 0], turned).div(8**0.5).softmax(dim=-1)
    torch.testing.assert_close(maps.flatten(2), weights[..., 2:])
    plain = torch.einsum('bhd,bhnd->bhn', query[:, :, 0], key).div(8**0.5).softmax(dim=-1)
    assert (maps.flatten(2) - plain[..., 2:]).abs().max() > 1e-3


def test_any_layer_and_any_register(images):
    torch.manual_seed(0)
    backbone = MaskedVisionTransformer(ARCH, img_size=32, patch_size=8, num_registers=2).eval()
    seen: list[Tensor] = []
    backbone.layers[0].attn.qkv.register_forward_hook(lambda *args: seen.append(args[-1]))
    maps = cls_attention(backbone, images, layer=1, token=2)
    query, key, _ = seen[0].unflatten(2, (3, 3, 8)).unbind(2)
    weights = torch.einsum('bhd,bnhd->bhn', query[:, 2], key).div(8**0.5).softmax(dim=-1)
    torch.testing.assert_close(maps.flatten(2), weights[..., 3:])
    with pytest.raises(ValueError, match='between 1 and 2 of MaskedVisionTransformer, got 3'):
        cls_attention(backbone, images, layer=3)
    with pytest.raises(ValueError, match='has 2 registers: there is not a token 3'):
        cls_attention(backbone, images, token=3)


def test_output_is_unchanged(backbone, images):
    before = backbone(images)[-1]
    cls_attention(backbone, images)
    assert torch.equal(backbone(images)[-1], before)


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: ResNet(18), 'has no attention layer'),
        (
            lambda: SwinTransformer('tiny', img_size=64, pad_small_map=True),
            r'within windows and has no \[CLS\]',
        ),
        (
            lambda: VisionTransformer(ARCH, 32, 8, with_cls_token=False, out_type='featmap'),
            r'a \[CLS\] token and a grid',
        ),
    ],
    ids=['convolution', 'windows', 'no class token'],
)
def test_unsuited_backbone(build, message):
    with pytest.raises(ValueError, match=message):
        cls_attention(build(), torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(
    ('number', 'per_head', 'shape'),
    [(1, False, (1, 2)), (3, False, (1, 6)), (4, False, (2, 6)), (2, True, (2, 5))],
)
def test_grid(number, per_head, shape):
    images = np.stack([data.astronaut()[::8, ::8]] * number)
    maps = torch.rand(number, 3, 4, 4)
    axes = draw_attention(images, maps, per_head).axes
    assert len(axes) == shape[0] * shape[1]
    used = [axis for axis in axes if axis.images]
    assert len(used) == number * (5 if per_head else 2)
    assert [axis.get_title() for axis in axes[:2]] == ['image', '[CLS] attention']
    assert np.array_equal(axes[0].images[0].get_array(), images[0])


def test_color_is_where_the_attention_is():
    images = np.full((1, 32, 32, 3), 128, np.uint8)
    maps = torch.zeros(1, 2, 4, 4)
    maps[:, :, 0, 3] = 1
    overlay = draw_attention(images, maps).axes[1].images[0].get_array()
    color = overlay.max(axis=2) - overlay.min(axis=2)
    assert color[:8, -8:].mean() > 0.2
    assert color[12:].max() < 1e-6


@pytest.mark.parametrize('value', [0.0, 1 / 16])
def test_uniform_attention_can_be_drawn(value):
    draw_attention(np.zeros((1, 16, 16, 3), np.uint8), torch.full((1, 2, 4, 4), value))


def test_png_is_written_into_a_new_folder(tmp_path):
    images = np.stack([data.astronaut()[::8, ::8]] * 2)
    path = save_attention(tmp_path / 'new' / 'maps.png', images, torch.rand(2, 3, 4, 4))
    height, width = imread(path).shape[:2]
    assert width > 600
    assert height > 200


def test_patches_that_hold_the_mass_have_the_color_of_their_head():
    images = np.full((1, 32, 32, 3), 128, np.uint8)
    maps = torch.full((1, 2, 4, 4), 0.01)
    maps[0, 0, 0, 0] = maps[0, 1, 3, 3] = 1
    axes = draw_attention(images, maps, per_head=True, mass=0.6).axes
    assert axes[2].get_title() == '60% of it, by head'
    colored = axes[2].images[0].get_array()
    assert colored.shape == (256, 256, 3)  # small images are enlarged beneath the colors
    for place, color in (((32, 32), COLORS[0]), ((224, 224), COLORS[1])):
        assert np.argmax(colored[place]) == np.argmax(to_rgb(color))
    assert np.ptp(colored[128:192, 64:128], axis=2).max() < 1e-6  # kept by no head
    outline = axes[3].collections[0].get_paths()[0].vertices
    assert outline.max() < 9  # around the one patch of the first head


def test_many_heads_go_on_below():
    images = np.stack([data.astronaut()[::8, ::8]] * 2)
    figure = draw_attention(images, torch.rand(2, 12, 4, 4), per_head=True, mass=0.6)
    assert len(figure.axes) == 2 * 2 * 8  # of 15 pictures for each image
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:16] == titles[16:] and titles[8] == 'head 6' and titles[14:16] == ['head 12', '']
    assert figure.get_figwidth() < 16


def test_images_of_unequal_size():
    images = [data.astronaut()[::8, ::8], data.astronaut()[::16, ::8]]
    maps = [torch.rand(3, 4, 4), torch.rand(3, 2, 4)]
    figure = draw_attention(images, maps, per_head=True, mass=0.5, title='weights')
    shown = [axis.images[0].get_array().shape[:2] for axis in figure.axes]
    assert (
        shown
        == [(64, 64)] * 2
        + [(256, 256)]
        + [(64, 64)] * 3
        + [(32, 64)] * 2
        + [(256, 512)]
        + [(32, 64)] * 3
    )
    assert figure.get_suptitle() == 'weights'


def test_numbers_must_agree():
    with pytest.raises(ValueError, match='got 1 images and 2 attention maps'):
        draw_attention(np.zeros((1, 8, 8, 3), np.uint8), torch.rand(2, 3, 4, 4))
