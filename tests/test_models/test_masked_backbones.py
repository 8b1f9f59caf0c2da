# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What the algorithm needs of a backbone, asked of every kind and family."""

import copy

import pytest
import torch
from mmengine.registry import MODELS

from ibot_mm.models import IBOT

pytestmark = pytest.mark.slow

STRIDE = 8  # of all
VIT = dict(
    type='ibot_mm.MaskedVisionTransformer',
    arch=dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=128),
    patch_size=STRIDE,
)
TIMM = dict(
    type='ibot_mm.TimmVisionTransformer',
    embed_dim=32,
    depth=3,
    num_heads=2,
    patch_size=STRIDE,
)
FAMILIES = [
    'vit_small_patch16_224',
    'vit_base_patch16_clip_224',  # a norm before the layers
    'deit_small_distilled_patch16_224',
    'deit3_small_patch16_224',  # layer scale, no position of [CLS]
    'vit_small_patch14_reg4_dinov2',
    'vit_small_patch16_dinov3',
    'eva02_tiny_patch14_224',
    'vit_small_patch16_rope_mixed_224',
    'vit_base_patch16_gap_224',  # no [CLS]
    'vit_medium_patch16_reg4_gap_256',  # registers, no [CLS]
    'vit_base_patch16_siglip_224',  # attention pooling
    'beitv2_base_patch16_224',
    'vit_relpos_small_patch16_224',
]
KINDS = {
    'ViT': VIT,
    'ViT with registers': VIT | dict(num_registers=2, pre_norm=True),
    'ViT, rotary': VIT | dict(num_registers=2, rotary=True),
    'Swin': dict(
        type='ibot_mm.MaskedSwinTransformer',
        arch=dict(embed_dims=8, depths=[2, 1], num_heads=[1, 2]),
        patch_size=STRIDE // 2,
        window_size=2,
    ),
    **{name: TIMM | dict(model_name=name) for name in FAMILIES},
}
ONE_SIZE = {'beitv2_base_patch16_224', 'vit_relpos_small_patch16_224'}
OF_LAYERS = [name for name in KINDS if name != 'Swin']  # outputs and freezing by layer

kinds = pytest.mark.parametrize('kind', KINDS)
layered_kinds = pytest.mark.parametrize('kind', OF_LAYERS)


def build(kind, **changes):
    torch.manual_seed(0)
    model = MODELS.build(KINDS[kind] | dict(img_size=32) | changes)
    model.init_weights()
    for parameter in model.parameters():  # the start is too regular: give all a say
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def sizes_of(kind):
    return [(32, 32)] if kind in ONE_SIZE else [(32, 32), (48, 16), (24, 40)]


def grid_of(size):
    return size[0] // STRIDE, size[1] // STRIDE


@kinds
def test_tokens_of_all_sizes(kind):
    model = build(kind, mask_token=False).eval()
    for size in sizes_of(kind):
        images = torch.randn(2, 3, *size)
        (tokens,) = model(images)
        rows, columns = grid_of(size)
        assert tokens.shape[:2] == (2, 1 + rows * columns)
        torch.testing.assert_close(tokens[:1], model(images[:1])[0])


@kinds
def test_last_blocks_end_with_the_output(kind):
    model = build(kind, mask_token=False).eval()
    images = torch.randn(2, 3, 32, 32)
    blocks = model.last_blocks(images, 3)
    assert len(blocks) == 3
    torch.testing.assert_close(blocks[-1], model(images)[-1])
    torch.testing.assert_close(model.last_blocks(images, 2), blocks[1:])
    raw = model.last_blocks(images, 1, final_norm=False)[0]
    assert raw.shape == blocks[-1].shape
    for number in (0, 4):
        with pytest.raises(ValueError, match='num_blocks must be between 1 and 3'):
            model.last_blocks(images, number)


@layered_kinds
def test_every_last_block_goes_through_the_final_norm(kind):
    model = build(kind, mask_token=False).eval()
    images = torch.randn(2, 3, 32, 32)
    normed, raw = (model.last_blocks(images, 2, final_norm=final) for final in (True, False))
    norm = getattr(model, 'timm_model', model)
    norm = norm.norm if hasattr(norm, 'norm') else norm.ln1
    for one, other in zip(normed, raw):
        torch.testing.assert_close(one[:, 1:], norm(other[:, 1:]))


@kinds
def test_masked_patches_do_not_reach_the_output(kind):
    model = build(kind).eval()
    for size in sizes_of(kind):
        images = torch.randn(2, 3, *size)
        masks = torch.zeros(2, *grid_of(size), dtype=torch.bool)
        masks[0, 1:3, 0] = True
        hidden = masks.repeat_interleave(STRIDE, 1).repeat_interleave(STRIDE, 2)[:, None]
        changed = torch.where(hidden, torch.randn_like(images), images)
        assert torch.equal(model(images, masks)[-1], model(changed, masks)[-1])
        assert not torch.allclose(model(images)[-1][0], model(images, masks)[-1][0])
        assert torch.equal(model(images)[-1][1], model(images, masks)[-1][1])


@kinds
def test_mask_token_is_the_only_parameter_of_its_kind(kind):
    with_token, without = (build(kind, mask_token=given).state_dict() for given in (True, False))
    assert with_token.keys() - without.keys() == {'mask_token'} and not (
        without.keys() - with_token.keys()
    )


@kinds
def test_mask_token_has_a_gradient_even_when_nothing_is_masked(kind):
    model = build(kind)
    model(torch.randn(2, 3, 32, 32), torch.zeros(2, 4, 4, dtype=torch.bool))[-1].sum().backward()
    assert torch.equal(model.mask_token.grad, torch.zeros_like(model.mask_token))


@kinds
def test_activation_checkpointing_changes_memory_only(kind):
    """Two sizes in one backward pass: each recomputation must use its own grid."""
    images, masks = torch.randn(2, 3, 32, 32), torch.rand(2, 4, 4) < 0.4
    other = images if kind in ONE_SIZE else images[:, :, :16, :24]
    gradients = []
    for with_cp in (False, True):
        model = build(kind, with_cp=with_cp, drop_path_rate=0.3).train()
        torch.manual_seed(1)
        loss = model(images, masks)[-1].square().mean()
        (loss + model(other)[-1].square().mean()).backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


@kinds
def test_train_returns_the_module(kind):
    model = build(kind)
    assert model.eval() is model and not model.training


@kinds
def test_copies_are_independent(kind):
    """A copy masks by its own token, also while the original runs."""
    model = build(kind).eval()
    copied = copy.deepcopy(model)
    copied.mask_token.data.zero_()
    images, masks = torch.randn(1, 3, 32, 32), torch.ones(1, 4, 4, dtype=torch.bool)
    assert not torch.equal(model(images, masks)[-1], copied(images, masks)[-1])
    assert not torch.equal(copied(images)[-1], copied(images, masks)[-1])


@kinds
def test_masks_that_do_not_fit(kind):
    images = torch.randn(1, 3, 32, 32)
    with pytest.raises(ValueError, match=r'\(2, 2\) .*do not fit the (patch )?grid \((4, 4|8, 8)'):
        build(kind)(images, torch.zeros(1, 2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match='mask_token=False'):
        build(kind, mask_token=False)(images, torch.zeros(1, 4, 4, dtype=torch.bool))


@layered_kinds
@pytest.mark.parametrize('size', [(7, 32), (32, 7)], ids=str)
def test_images_smaller_than_a_patch(size, kind):
    with pytest.raises(ValueError, match=r'pixels are smaller than one patch of \(8, 8\)'):
        build(kind)(torch.randn(1, 3, *size))


@layered_kinds
def test_outputs_are_forms_of_the_same_tokens(kind):
    model = build(kind, mask_token=False, out_indices=[0, -1]).eval()
    for size in sizes_of(kind):
        images = torch.randn(2, 3, *size)
        model.out_type = 'raw'
        tokens = model(images)
        assert len(tokens) == 2 and not torch.equal(*tokens)
        model.out_type = 'featmap'
        for layer, features in zip(tokens, model(images)):
            assert features.shape == (2, 32, *grid_of(size)) and features.is_contiguous()
            assert torch.equal(features.flatten(2).transpose(1, 2), layer[:, 1:])
        model.out_type = 'cls_token'
        assert all(torch.equal(cls, layer[:, 0]) for layer, cls in zip(tokens, model(images)))


@layered_kinds
def test_final_norm_is_of_the_last_layer(kind):
    images, outputs = torch.randn(2, 3, 32, 32), []
    for final_norm in (True, False):
        model = build(kind, mask_token=False, out_indices=[1, 2], final_norm=final_norm).eval()
        outputs.append([tokens[:, 1:] for tokens in model(images)])
    assert torch.equal(outputs[0][0], outputs[1][0])
    pools_first = {'eva02_tiny_patch14_224', 'vit_medium_patch16_reg4_gap_256',
                   'beitv2_base_patch16_224', 'vit_relpos_small_patch16_224'}  # fmt: skip
    assert torch.equal(outputs[0][1], outputs[1][1]) == (kind in pools_first)


@layered_kinds
@pytest.mark.parametrize('frozen_stages', [-1, 0, 2, 3])
def test_frozen_stages_stay_frozen(frozen_stages, kind):
    free = {n for n, p in build(kind).named_parameters() if p.requires_grad}
    model = build(kind, frozen_stages=frozen_stages, drop_path_rate=0.1).train()
    depths = {name: model.get_layer_depth(name)[0] for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        frozen = depths[name] <= frozen_stages or frozen_stages == 3
        assert parameter.requires_grad == (not frozen and name in free), name
    layers = getattr(model, 'layers', None) or model.timm_model.blocks
    for number, layer in enumerate(layers):
        assert {module.training for module in layer.modules()} == {number >= frozen_stages}
    assert not any(module.training for module in model.eval().modules())


@layered_kinds
def test_layer_depth(kind):
    model = build(kind)
    depths = {
        name: model.get_layer_depth(f'backbone.{name}', 'backbone.')
        for name, _ in model.named_parameters()
    }
    assert {number for _, number in depths.values()} == {5}
    assert {depth for depth, _ in depths.values()} >= {0, 1, 2, 3}
    for name, (depth, _) in depths.items():
        name = name.removeprefix('timm_model.')
        if name.startswith(('layers.', 'blocks.')):
            assert depth == int(name.split('.')[1]) + 1
        else:
            last = name.startswith(('ln1.', 'norm.', 'fc_norm.', 'attn_pool.'))
            assert depth == (4 if last else 0), name
    for name in ('neck.mask_token', 'neck.pre_norm.weight', 'head.layers.0.weight'):
        assert model.get_layer_depth(name, 'backbone.') == (4, 5)


@kinds
def test_pre_training(kind):
    """A step of the algorithm trains every parameter, and the teacher follows."""
    torch.manual_seed(0)
    channels = 16 if kind == 'Swin' else 32
    model = IBOT(
        backbone=KINDS[kind] | dict(img_size=32, drop_path_rate=0.1),
        neck=dict(
            type='ibot_mm.IBOTNeck',
            in_channels=channels,
            num_prototypes=20,
            hidden_channels=16,
            bottleneck_channels=8,
            norm_last_layer=False,
        ),
        head=dict(type='ibot_mm.IBOTHead', num_prototypes=20),
    )
    model.init_weights()
    inputs = dict(global_crops=torch.randn(3, 2, 3, 32, 32), masks=torch.rand(3, 2, 4, 4) < 0.4)
    if kind not in ONE_SIZE:
        inputs['local_crops'] = torch.randn(3, 4, 3, 16, 16)
    losses = model.train().loss(inputs)
    sum(losses.values()).backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert 'backbone.mask_token' in trained
    assert [name for name, p in trained.items() if p.grad is None] == []
    torch.optim.SGD(trained.values(), lr=1.0).step()
    student = dict(model.backbone.named_parameters())
    before = {name: p.clone() for name, p in model.teacher.backbone.named_parameters()}
    model.update_teacher(0.5)
    after = dict(model.teacher.backbone.named_parameters())
    assert before.keys() == student.keys() - {'mask_token'}
    expected = {name: (before[name] + student[name]) / 2 for name in before}
    torch.testing.assert_close(after, expected)
    assert any(not torch.equal(after[name], before[name]) for name in after)


@kinds
def test_patch_embedding_is_found_under_one_name(kind):
    """What the algorithm freezes by :meth:`IBOT.drop_patch_embedding_gradients`."""
    model = build(kind)
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {names[parameter] for parameter in model.patch_embed.parameters()}
    assert any(name.endswith(('proj.weight', 'projection.weight')) for name in found)
    assert all(model.get_layer_depth(name)[0] == 0 for name in found)
