# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import timm
import torch
from mmpretrain.models import VisionTransformer

from ibot_mm.checkpoint import published_to_ibot_mm
from ibot_mm.models import MaskedVisionTransformer

TINY = dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=128)


def build(**kwargs):
    torch.manual_seed(0)
    model = MaskedVisionTransformer(**(dict(arch=TINY, img_size=32, patch_size=8) | kwargs))
    model.init_weights()
    return model


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base', 'large'])
def test_arch_names_are_those_of_timm(arch):
    with torch.device('meta'):
        ours = MaskedVisionTransformer(arch=arch, mask_token=False)
        theirs = timm.create_model(f'vit_{arch}_patch16_224', num_classes=0)
    count = [sum(p.numel() for p in model.parameters()) for model in (ours, theirs)]
    assert count[0] == count[1]


@pytest.mark.parametrize('size', [(32, 32), (16, 16), (40, 24)], ids=str)
def test_features_equal_timms(size):
    """The published backbone has timm's names, and its function where nothing is resized."""
    torch.manual_seed(0)
    theirs = timm.models.VisionTransformer(
        img_size=size, patch_size=8, embed_dim=32, depth=3, num_heads=2, num_classes=0
    ).eval()
    ours = build(img_size=size, mask_token=False).eval()
    state = {f'backbone.{name}': tensor for name, tensor in theirs.state_dict().items()}
    names = published_to_ibot_mm(state, shared=True)
    ours.load_state_dict({names[n].removeprefix('backbone.'): t for n, t in state.items()})
    images = torch.randn(2, 3, *size)
    torch.testing.assert_close(
        ours(images)[-1], theirs.forward_features(images), atol=1e-5, rtol=1e-5
    )


def test_checkpoints_are_mmpretrains():
    ours = build(mask_token=False).state_dict()
    stock = VisionTransformer(arch=TINY, img_size=32, patch_size=8)
    stock.load_state_dict(ours, strict=True)


@pytest.mark.parametrize('size', [(32, 32), (48, 16)], ids=str)
def test_masked_patches_do_not_reach_the_output(size):
    model = build().eval()
    images = torch.randn(2, 3, *size)
    masks = torch.zeros(2, size[0] // 8, size[1] // 8, dtype=torch.bool)
    masks[0, 1:3, 0] = True
    hidden = masks.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    changed = torch.where(hidden, torch.randn_like(images), images)
    assert torch.equal(model(images, masks)[-1], model(changed, masks)[-1])
    assert not torch.allclose(model(images)[-1][0], model(images, masks)[-1][0])
    assert torch.equal(model(images)[-1][1], model(images, masks)[-1][1])


def test_mask_token_has_a_gradient_even_when_nothing_is_masked():
    model = build()
    model(torch.randn(2, 3, 32, 32), torch.zeros(2, 4, 4, dtype=torch.bool))[-1].sum().backward()
    assert torch.equal(model.mask_token.grad, torch.zeros_like(model.mask_token))


def test_activation_checkpointing_changes_memory_only():
    images, masks = torch.randn(2, 3, 32, 32), torch.rand(2, 4, 4) < 0.4
    gradients = []
    for checkpoint_activations in (False, True):
        model = build(checkpoint_activations=checkpoint_activations, drop_path_rate=0.3).train()
        torch.manual_seed(1)
        model(images, masks)[-1].square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_initialisation_is_truncated_normal():
    model = build(arch='tiny', img_size=224, patch_size=16)
    for name in ('layers.3.attn.qkv.weight', 'layers.0.ffn.layers.1.weight', 'pos_embed'):
        assert model.get_parameter(name).std().item() == pytest.approx(0.02, rel=0.05), name
    assert not model.layers[3].attn.qkv.bias.any() and not model.mask_token.any()


def test_train_returns_the_module():
    model = build()
    assert model.eval() is model and not model.training


@pytest.mark.parametrize('out_type', ['cls_token', 'featmap', 'avg_featmap'])
def test_other_outputs_are_mmpretrains(out_type):
    out_indices = (0, -1)
    model = build(out_type=out_type, out_indices=out_indices, mask_token=False).eval()
    stock = VisionTransformer(
        arch=TINY, img_size=32, patch_size=8, out_type=out_type, out_indices=[0, -1]
    )
    stock.eval()  # returns None: the base class's train() does
    stock.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images), stock(images))
    assert out_indices == (0, -1)


def test_layer_depth_counts_the_mask_token_as_embedding():
    model = build()
    depths = {
        name: model.get_layer_depth(f'backbone.{name}', 'backbone.')
        for name in (
            'mask_token',
            'cls_token',
            'layers.0.ln1.weight',
            'layers.2.ln1.weight',
            'ln1.bias',
        )
    }
    assert [depth for depth, _ in depths.values()] == [0, 0, 1, 3, 4]


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(arch='smal'), r"Unknown arch 'smal'.*'base'.*'small'"),
        (dict(arch=dict(embed_dims=32)), r"lacks \['feedforward_channels', 'num_heads'"),
    ],
)
def test_unknown_arch(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_masks_that_do_not_fit():
    images = torch.randn(1, 3, 32, 32)
    with pytest.raises(ValueError, match=r'\(2, 2\) patches do not fit the grid \(4, 4\)'):
        build()(images, torch.zeros(1, 2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match='mask_token=False'):
        build(mask_token=False)(images, torch.zeros(1, 4, 4, dtype=torch.bool))
