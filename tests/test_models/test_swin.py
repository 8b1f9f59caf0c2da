# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from timm.models.swin_transformer import SwinTransformer as TimmSwin
from torch import nn

from ibot_mm.checkpoint import published_to_ibot_mm
from ibot_mm.checkpoint.formats.swin import to_unfold_order
from ibot_mm.models import MaskedSwinTransformer

CONFIGS = Path(__file__).parents[2] / 'configs'
TINY = dict(embed_dims=8, depths=[2, 2, 2, 1], num_heads=[1, 1, 2, 2])


def build(**kwargs):
    torch.manual_seed(0)
    model = MaskedSwinTransformer(**(dict(arch=TINY, img_size=64, window_size=4) | kwargs))
    model.init_weights()
    return model


def published_state(theirs):
    """timm's tensors under published names; its merging belongs to the stage that follows."""
    state = {}
    for name, tensor in theirs.state_dict().items():
        parts = name.split('.')
        if 'downsample' in parts:
            parts[1] = str(int(parts[1]) - 1)
        state['.'.join(['backbone', *parts])] = tensor
    return state


@pytest.mark.parametrize('window_size', [2, 4])
@pytest.mark.parametrize('size', [(64, 64), (128, 64)], ids=str)
def test_features_equal_timms(size, window_size):
    """timm pads in another place: it is the published function where nothing is padded."""
    torch.manual_seed(0)
    theirs = TimmSwin(
        img_size=64,
        window_size=window_size,
        embed_dim=8,
        depths=TINY['depths'],
        num_heads=TINY['num_heads'],
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        num_classes=0,
        strict_img_size=False,
    ).eval()
    for parameter in theirs.parameters():  # norms and biases too
        nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.2)
    ours = build(window_size=window_size, mask_token=False).eval()
    state = published_state(theirs)
    names = published_to_ibot_mm(state, shared_head=True)
    own = {names[n].removeprefix('backbone.'): t for n, t in to_unfold_order(state).items()}
    missing, unexpected = ours.load_state_dict(own, strict=False)
    assert not unexpected and all(name.endswith('position_index') for name in missing)
    images = torch.randn(2, 3, *size)
    tokens = ours(images)[-1]
    expected = theirs.forward_features(images).flatten(1, 2)
    torch.testing.assert_close(tokens[:, 1:], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tokens[:, 0], expected.mean(dim=1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    'window_size, windows, shifts',
    [(7, [7, 7, 7, 7], [3, 3, 3, 0]), (14, [14, 14, 14, 7], [7, 7, 0, 0])],
)
def test_windows_are_settled_by_the_training_resolution(window_size, windows, shifts):
    arch = dict(embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 1, 1, 1])
    model = MaskedSwinTransformer(arch=arch, window_size=window_size)
    attentions = [[block.attn for block in stage.blocks] for stage in model.stages]
    assert [[a.window_size for a in stage] for stage in attentions] == [[w, w] for w in windows]
    assert [[a.shift_size for a in stage] for stage in attentions] == [[0, s] for s in shifts]


def test_images_are_cut_to_whole_patches():
    model, images = build().eval(), torch.randn(1, 3, 67, 50)
    assert torch.equal(model(images)[-1], model(images[..., :64, :48])[-1])


@pytest.mark.parametrize('size', [(64, 64), (96, 32)], ids=str)
def test_hidden_parts_do_not_reach_the_output(size):
    model = build().eval()
    nn.init.normal_(model.mask_token)
    images = torch.randn(2, 3, *size)
    masks = torch.zeros(2, size[0] // 32, size[1] // 32, dtype=torch.bool)
    masks[0, 1, 0] = True
    hidden = masks.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, None]
    changed = torch.where(hidden, torch.randn_like(images), images)
    assert torch.equal(model(images, masks)[-1], model(changed, masks)[-1])
    assert not torch.allclose(model(images)[-1][0], model(images, masks)[-1][0])
    assert torch.equal(model(images)[-1][1], model(images, masks)[-1][1])


def test_mask_token_takes_the_place_of_the_normalized_embedding():
    model = build().eval()
    nn.init.normal_(model.mask_token)
    inputs = []
    model.stages[0].blocks[0].register_forward_pre_hook(lambda m, args: inputs.append(args[0]))
    model(torch.randn(1, 3, 64, 64), torch.tensor([[[True, False], [False, False]]]))
    is_token = (inputs[0] == model.mask_token).all(dim=-1).view(16, 16)
    assert is_token[:8, :8].all() and is_token.sum() == 64


def test_activation_checkpointing_changes_memory_only():
    """Two sizes in one backward pass: each recomputation must use its own grid."""
    images, masks = torch.randn(2, 3, 64, 64), torch.rand(2, 2, 2) < 0.4
    gradients = []
    for with_cp in (False, True):
        model = build(with_cp=with_cp, drop_path_rate=0.3).train()
        torch.manual_seed(1)
        outputs = model(images, masks)[-1], model(images[..., :40])[-1]
        sum(output.square().mean() for output in outputs).backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_initialization_is_truncated_normal():
    arch = dict(embed_dims=96, depths=[1, 2], num_heads=[3, 6])
    model = build(arch=arch, img_size=224, window_size=14)
    for name in (
        'stages.1.blocks.1.attn.w_msa.qkv.weight',
        'stages.1.blocks.1.attn.w_msa.relative_position_bias_table',
        'stages.0.blocks.0.ffn.layers.1.weight',
        'stages.0.downsample.reduction.weight',
    ):
        assert model.get_parameter(name).std().item() == pytest.approx(0.02, rel=0.05), name
    assert not model.stages[1].blocks[0].attn.w_msa.qkv.bias.any() and not model.mask_token.any()
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm)]
    assert all((m.weight == 1).all() and not m.bias.any() and m.eps == 1e-6 for m in norms)


def test_init_cfg_has_the_last_word(tmp_path):
    source = {n: t + 1 for n, t in build().state_dict().items() if not n.endswith('index')}
    torch.save(source, tmp_path / 'weights.pth')
    loaded = build(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth')))
    own = loaded.state_dict()
    torch.testing.assert_close({name: own[name] for name in source}, source)


def test_each_size_is_compiled_by_itself(monkeypatch):
    settings = []
    monkeypatch.setattr(nn.Module, 'compile', lambda module, **kwargs: settings.append(kwargs))
    build().compile()
    build().compile(dynamic=True, backend='eager')
    assert settings == [dict(dynamic=False), dict(dynamic=True, backend='eager')]


def test_layer_depth_counts_the_mask_token_as_embedding():
    model = build()
    depths = [
        model.get_layer_depth(f'backbone.{name}', 'backbone.')
        for name in (
            'mask_token',
            'patch_embed.norm.weight',
            'stages.0.blocks.0.norm1.weight',
            'stages.0.downsample.norm.weight',
            'stages.3.blocks.0.norm1.weight',
            'norm3.bias',
        )
    ]
    assert depths == [(depth, 9) for depth in (0, 0, 1, 2, 7, 8)]


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(arch='tinny'), r"Unknown arch 'tinny'.*'base'.*'small'"),
        (dict(arch=dict(embed_dims=8, depths=[1])), r"exactly .*'num_heads'"),
        (dict(arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1])), 'as many num_heads'),
        (dict(img_size=28), 'img_size=28 leaves no position .* 4 stages: .* at least 32'),
    ],
)
def test_what_cannot_be_built(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


@pytest.mark.parametrize('size, grid', [(64, (4, 4)), (64, (1, 2)), (80, (2, 2)), (80, (3, 3))])
def test_masks_that_do_not_fit(size, grid):
    with pytest.raises(ValueError, match=r'do not fit the patch grid .* patch_size=32'):
        build()(torch.randn(1, 3, size, size), torch.zeros(1, *grid, dtype=torch.bool))


def test_masks_without_a_token():
    with pytest.raises(ValueError, match='mask_token=False'):
        build(mask_token=False)(torch.randn(1, 3, 64, 64), torch.zeros(1, 2, 2, dtype=torch.bool))


@pytest.mark.slow
def test_training_and_k_nearest_neighbors(tiny_config, train):
    tiny_config.model.backbone = dict(
        type='ibot_mm.MaskedSwinTransformer',
        arch=dict(embed_dims=8, depths=[2, 2], num_heads=[1, 2]),
        img_size=16,
        patch_size=2,
        window_size=4,
    )
    runner = train(tiny_config)
    model = runner.model.module if hasattr(runner.model, 'module') else runner.model
    assert model.backbone.mask_token.abs().sum() > 0 and model.teacher.backbone.mask_token is None
    assert 'knn' in str(runner.message_hub.log_scalars.keys()).lower()
    model.eval()
    images = torch.randn(2, 3, 16, 16)
    samples = model.predict(images, [DataSample(), DataSample()])
    pooled = model.teacher.backbone(images)[-1][:, 1:].mean(dim=1)
    torch.testing.assert_close(torch.stack([sample.feature for sample in samples]), pooled)


@pytest.mark.parametrize('window_size', [7, 14])
def test_recipe(window_size):
    cfg = Config.fromfile(CONFIGS / f'pretrain/ibot_swint_w{window_size}.py')
    crops, masks = (cfg.train_dataloader.dataset.pipeline[name] for name in ('crops', 'masks'))
    assert cfg.train_cfg.max_epochs == 300
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(5e-4 * 1024 / 256)
    assert cfg.auto_scale_lr.base_batch_size == 1024 and cfg.param_scheduler[0].final == 1e-6
    assert cfg.optim_wrapper.clip_grad.max_norm == 3.0
    assert (cfg.model.neck.norm_last_layer, cfg.model.neck.shared_head) == (False, True)
    assert cfg.default_hooks.prototypes.epochs == 1
    temperature = cfg.default_hooks.temperature
    assert (temperature.warmup_epochs, temperature.patch_start_epoch) == (30, 50)
    assert (masks.patch_size, masks.start_epoch, masks.shape) == (32, 50, 'block')
    assert [tuple(pair) for pair in masks.ratio] == [(0.0, 0.0), (0.3, 0.2)]
    assert (crops.global_crop_size, crops.local_crop_size, crops.num_local_crops) == (224, 96, 10)
    assert (tuple(crops.global_crop_scale), tuple(crops.local_crop_scale)) == (
        (0.25, 1.0),
        (0.05, 0.25),
    )
    backbone = MODELS.build(cfg.model.backbone)
    assert backbone.stages[0].blocks[0].attn.window_size == window_size
    assert backbone.stride == masks.patch_size
    assert cfg.model.backbone.drop_path_rate == 0.1
