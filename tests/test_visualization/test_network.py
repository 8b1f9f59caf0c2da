# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
import pytest
import torch

from ibot_mm.create import create_backbone
from ibot_mm.frozen_network import FrozenNetwork
from ibot_mm.models import MaskedSwinTransformer, TimmVisionTransformer
from ibot_mm.visualization import Picture, read_attention, read_tokens
from ibot_mm.visualization.network import figure_title, patch_stride

TIMM = dict(embed_dim=24, depth=2, num_heads=2, mlp_ratio=2, mask_token=False)
SWIN = dict(embed_dims=24, depths=[1, 1], num_heads=[2, 2])


def picture(height, width, name='image.png'):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Picture(name, pixels)


def test_tokens_are_those_of_the_patches_in_rgb(network, paint):
    painted = paint(['rg', 'bw', 'kk'])
    (tokens,) = read_tokens(network, [painted])
    assert tokens.patches.shape == (3, 2, 3)
    expected = [[[2, -2, -2], [-2, 2, -2]], [[-2, -2, 2], [2, 2, 2]], [[-2] * 3] * 2]
    torch.testing.assert_close(tokens.patches, torch.tensor(expected, dtype=torch.float32))
    torch.testing.assert_close(tokens.cls, tokens.patches.mean(dim=(0, 1)))
    (first,) = read_tokens(network, [painted], layer=1)
    torch.testing.assert_close(first.patches * 2, tokens.patches)


def test_without_a_preprocessor_images_are_normalized_by_imagenet():
    backbone = create_backbone('vit_tiny_patch16', img_size=32)
    image = picture(32, 48)
    (tokens,) = read_tokens(FrozenNetwork(backbone, 'vit'), [image])
    pixels = torch.from_numpy(image.pixels).permute(2, 0, 1)[None].float()
    mean = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
    std = torch.tensor([58.395, 57.12, 57.375])[:, None, None]
    expected = backbone((pixels - mean) / std)[-1][0]
    torch.testing.assert_close(tokens.cls, expected[0])
    torch.testing.assert_close(tokens.patches.flatten(0, 1), expected[1:])


def test_margins_are_cut_at_both_sides_and_said(network, monkeypatch):
    said = []
    monkeypatch.setattr(
        'ibot_mm.visualization.network.print_log', lambda text, *_: said.append(text)
    )
    images = [picture(19, 32, 'a'), picture(19, 32, 'b'), picture(16, 16, 'c')]
    found = list(read_tokens(network, images))
    assert [tokens.picture.size for tokens in found] == [(16, 32), (16, 32), (16, 16)]
    assert np.array_equal(found[0].picture.pixels, images[0].pixels[1:17])
    assert found[0].picture.offset == (1, 0)
    (line,) = said
    assert line.startswith('a: 19 x 32 pixels are cut to 16 x 32, whole patches of 8 x 8;')


def test_order_is_kept_over_sizes_and_batches(network, monkeypatch):
    monkeypatch.setattr('ibot_mm.visualization.network.BATCH_SIZE', 2)
    images = [picture(16, 16 + 8 * (i // 3), str(i)) for i in range(7)]
    assert [tokens.picture.name for tokens in read_tokens(network, images)] == list('0123456')


def test_unsuited(network):
    with pytest.raises(
        ValueError, match='small.png: an image of 7 x 40 pixels is smaller than one'
    ):
        list(read_tokens(network, [picture(7, 40, 'small.png')]))
    for layer in (0, 3):
        with pytest.raises(ValueError, match='between 1 and 2, those of colors_patch8'):
            list(read_tokens(network, [picture(8, 8)], layer))


@pytest.mark.parametrize(
    'name, registers', [('vit_small_patch16_224', 0), ('vit_small_patch16_dinov3', 4)]
)
def test_timm(name, registers):
    backbone = TimmVisionTransformer(name, img_size=32, **TIMM).eval()
    network = FrozenNetwork(backbone, name)
    image = picture(40, 70)
    (tokens,) = read_tokens(network, [image])
    assert tokens.patches.shape == (2, 4, 24)
    ((cropped, maps),) = read_attention(network, [image])
    assert maps.shape == (2, 2, 4) and cropped.size == (32, 64)
    if registers:
        ((_, of_register),) = read_attention(network, [image], token=registers)
        assert not torch.allclose(of_register, maps)
    with pytest.raises(ValueError, match=f'has {registers} registers'):
        list(read_attention(network, [image], token=registers + 1))


def test_timm_of_one_size_only():
    backbone = TimmVisionTransformer('beit_base_patch16_224', img_size=32, **TIMM).eval()
    with pytest.raises(ValueError, match='32 x 32 pixels only.*give --image-size 32 32'):
        list(read_tokens(FrozenNetwork(backbone, 'beit'), [picture(32, 48)]))
    (tokens,) = read_tokens(FrozenNetwork(backbone, 'beit'), [picture(32, 32)])
    assert tokens.patches.shape == (2, 2, 24)


def test_swin():
    backbone = MaskedSwinTransformer(SWIN, img_size=32, window_size=4, mask_token=False).eval()
    network = FrozenNetwork(backbone, 'swin')
    assert patch_stride(backbone) == (8, 8)
    (tokens,) = read_tokens(network, [picture(32, 48)])
    assert tokens.patches.shape == (4, 6, 48)
    (tokens,) = read_tokens(network, [picture(32, 48)], layer=1)
    assert tokens.patches.shape == (8, 12, 24)
    with pytest.raises(ValueError, match=r'no \[CLS\] token.*pca, similarity'):
        list(read_attention(network, [picture(32, 48)]))


def test_title_says_weights_and_layer(network):
    title = figure_title(network, 'PCA', 1).replace('\N{NO-BREAK SPACE}', ' ')
    assert title == 'PCA · epoch_1.pth (teacher) · colors_patch8 · layer 1 of 2'


def test_places_of_a_file_in_what_is_shown():
    shown = Picture('x.png', np.zeros((16, 32, 3), np.uint8), (0.5, 0.5), (2, 4))
    assert shown.locate(x=8, y=4) == (0.25, 0.25)
    for x, y in ((7, 4), (8, 3), (72, 4), (8, 36)):
        with pytest.raises(
            ValueError, match='x from 8 to 72 and y from 4 to 36 pixels of the file'
        ):
            shown.locate(x, y)
