# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The algorithm beside a plain reading of the paper: all tokens, stock layers, pairs one by one."""

import copy

import pytest
import torch
from torch._dynamo.utils import counters

from ibot_mm.functional.position_embedding import resize_position_embedding
from ibot_mm.functional.token_selection import masked_patches
from ibot_mm.models import IBOT

NUM_PROTOTYPES = 20
OPTIONS = {
    'default': {},
    'drop path': dict(backbone=dict(drop_path_rate=0.5)),
    'no bias in attention': dict(backbone=dict(qkv_bias=False)),
    'layer scale': dict(backbone=dict(layer_scale_init_value=0.1)),
    'activation checkpointing': dict(backbone=dict(with_cp=True, drop_path_rate=0.5)),
    'registers, rotary': dict(backbone=dict(num_registers=2, rotary=True)),
    'layer norm': dict(neck=dict(norm_cfg=dict(type='LN'))),
    'batch norm': dict(neck=dict(norm_cfg=dict(type='BN1d')), backbone=dict(drop_path_rate=0.5)),
    'separate prototypes': dict(neck=dict(shared_head=False)),
    'separate MLPs': dict(neck=dict(shared_head=False, shared_mlp=False)),
    'separate MLPs, batch norm': dict(
        neck=dict(shared_head=False, shared_mlp=False, norm_cfg=dict(type='BN1d'))
    ),
    'no bottleneck': dict(neck=dict(bottleneck_channels=0)),
}


def build(backbone=dict(), neck=dict()):
    torch.manual_seed(0)
    arch = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
    model = IBOT(
        backbone=dict(
            type='ibot_mm.MaskedVisionTransformer', arch=arch, img_size=32, patch_size=8, **backbone
        ),
        neck=dict(
            type='ibot_mm.IBOTNeck',
            **dict(dict(in_channels=16, num_prototypes=NUM_PROTOTYPES, hidden_channels=12,
                        bottleneck_channels=8), **neck),
        ),
        head=dict(type='ibot_mm.IBOTHead', num_prototypes=NUM_PROTOTYPES, patch_weight=0.5),
    )  # fmt: skip
    model.init_weights()
    for parameter in model.parameters():  # the start is too regular: give all terms a say
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    model.head.set_temperatures(0.05, 0.07)
    for center in model.head.buffers():
        center.normal_(std=0.1)
    return model.double().train()


def make_inputs(local_crops=3, dtype=torch.float64):
    torch.manual_seed(1)
    masks = torch.rand(5, 2, 4, 4) < 0.4
    masks[0] = masks[3, 1] = False
    inputs = dict(global_crops=torch.randn(5, 2, 3, 32, 32, dtype=dtype), masks=masks)
    if local_crops:
        inputs['local_crops'] = torch.randn(5, local_crops, 3, 16, 16, dtype=dtype)
    return inputs


def plain_tokens(backbone, images, masks=None):
    if backbone.rotary:  # mmpretrain has no such layer
        return backbone(images, masks)[-1]
    tokens, grid = backbone.patch_embed(images)
    if masks is not None:
        tokens = torch.where(masks.flatten(1)[..., None], backbone.mask_token, tokens)
    tokens = torch.cat([backbone.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
    position = resize_position_embedding(backbone.pos_embed, backbone.patch_resolution, grid)
    tokens = tokens + position
    for layer in backbone.layers:
        tokens = layer(tokens)
    return backbone.ln1(tokens)


def cross_entropy(teacher, center, temperature, student):
    targets = ((teacher - center) / temperature).softmax(dim=-1)
    return -(targets * (student / 0.1).log_softmax(dim=-1)).sum(dim=-1)


def plain_loss(model, inputs):
    head, views = model.head, list(inputs['global_crops'].unbind(1))
    masks = inputs['masks'].unbind(1)
    with torch.no_grad():
        tokens = plain_tokens(model.teacher.backbone, torch.cat(views))
        teacher_cls, teacher_patch = (x.chunk(2) for x in model.teacher.neck(tokens))
    tokens = plain_tokens(model.backbone, torch.cat(views), torch.cat(masks))
    student_cls, student_patch = (list(x.chunk(2)) for x in model.neck(tokens))
    if 'local_crops' in inputs:
        local = inputs['local_crops'].unbind(1)
        local_cls, _ = model.neck(plain_tokens(model.backbone, torch.cat(local)))
        student_cls += local_cls.chunk(len(local))

    cls, patch = [], []
    for q in range(2):
        for v in range(len(student_cls)):
            if v != q:
                pair = teacher_cls[q], head.cls_center, 0.05, student_cls[v]
                cls.append(cross_entropy(*pair).mean())
        each = cross_entropy(teacher_patch[q], head.patch_center, 0.07, student_patch[q])
        mask = masks[q].flatten(1)
        patch.append(((each * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)).mean())
    centers = [
        0.9 * old + 0.1 * torch.cat(new).flatten(0, -2).mean(dim=0)
        for old, new in ((head.cls_center, teacher_cls), (head.patch_center, teacher_patch))
    ]
    return sum(cls) / len(cls), 0.5 * sum(patch) / 2, centers


@pytest.mark.parametrize('local_crops', [3, 0], ids=lambda n: f'{n} local crops')
@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS.keys())
def test_losses_gradients_and_centers_are_those_of_the_plain_path(options, local_crops):
    inputs = make_inputs(local_crops)
    fast = build(**options)
    plain = copy.deepcopy(fast)
    torch.manual_seed(2)
    losses = fast.loss(inputs)
    (losses['loss_cls'] + losses['loss_patch']).backward()
    torch.manual_seed(2)
    loss_cls, loss_patch, centers = plain_loss(plain, inputs)
    (loss_cls + loss_patch).backward()

    close = dict(rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(losses['loss_cls'], loss_cls, **close)
    torch.testing.assert_close(losses['loss_patch'], loss_patch, **close)
    torch.testing.assert_close([fast.head.cls_center, fast.head.patch_center], centers, **close)
    for (name, p), q in zip(fast.named_parameters(), plain.parameters()):
        if q.grad is None:
            assert p.grad is None or not p.grad.any(), name
        else:
            torch.testing.assert_close(p.grad, q.grad, **close, msg=lambda m, n=name: f'{n}: {m}')
    torch.testing.assert_close(dict(fast.neck.named_buffers()), dict(plain.neck.named_buffers()))


def test_masked_patches_may_come_with_the_batch():
    inputs, model = make_inputs(), build()
    expected = copy.deepcopy(model).loss(inputs)
    inputs['masked_patches'] = masked_patches(inputs['masks'])
    torch.testing.assert_close(model.loss(inputs), expected, rtol=0, atol=0)


def test_no_patch_is_masked():
    inputs, model = make_inputs(), build()
    inputs['masks'].zero_()
    losses = model.loss(inputs)
    assert losses['loss_patch'] == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_mixed_precision_keeps_losses_in_float32():
    """bf16 networks; logits, losses and centers near those in float32, much nearer than bf16's."""
    model, inputs = build().float(), make_inputs(dtype=torch.float32)
    expected = copy.deepcopy(model).loss(inputs)
    seen = {}
    original = model.head.loss
    model.head.loss = lambda **logits: seen.update(logits) or original(**logits)
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.loss(inputs)
    assert all(tensor.dtype == torch.float32 for tensor in (*losses.values(), *seen.values()))
    for name in ('loss_cls', 'loss_patch'):
        torch.testing.assert_close(losses[name], expected[name], rtol=0.02, atol=0)
    sum(losses.values()).backward()


@pytest.mark.long
@pytest.mark.slow
def test_compiled_backbones_take_any_number_of_masked_patches():
    """One graph each for teacher, global and local crops; only a first 0 costs another."""
    torch._dynamo.reset()
    counters.clear()
    plain = build(backbone=dict(drop_path_rate=0.5))
    compiled = copy.deepcopy(plain)
    for backbone in (compiled.backbone, compiled.teacher.backbone):
        backbone.compile(backend='eager')
    inputs, graphs = make_inputs(), []
    for step in range(5):
        inputs['masks'] = torch.rand(5, 2, 4, 4) < 0.1 * step
        losses = []
        for model in (plain, compiled):
            torch.manual_seed(step)
            losses.append(model.loss(inputs))
        torch.testing.assert_close(*losses, rtol=1e-10, atol=0)
        graphs.append(counters['stats']['unique_graphs'])
    assert graphs == [3, 4, 4, 4, 4] and not counters['graph_break']
