# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Further formats: each is read to equal features, or refused with a true reason."""

import json
import pickle

import pytest
import timm
import torch
import torch.distributed.checkpoint as dcp
import torchvision
import transformers
from transformers_classes import classes_of

from ibot_mm.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_weights,
    rebuild_backbone,
    verify_checkpoint,
)
from ibot_mm.models import MaskedSwinTransformer, TimmVisionTransformer

SMALL = dict(patch_size=8, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2, img_size=32)
TIMM = dict(SMALL, num_classes=0)


def vit(**kwargs):
    return timm.models.VisionTransformer(**TIMM | kwargs)


def test_torchvision(perturb, load, assert_same):
    source = perturb(torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=5))
    model, report = load(source.state_dict())

    def tokens(images):
        patches = source._process_input(images)
        cls = source.class_token.expand(len(images), -1, -1)
        return source.encoder(torch.cat([cls, patches], dim=1))

    assert_same(model, tokens, (32, 32))
    assert sorted(report.left_out['classification head']) == [
        'heads.head.bias',
        'heads.head.weight',
    ]


def clip_names(state):
    """A CLIP of timm as OpenAI's code and OpenCLIP name it."""
    table = dict(
        zip(
            ('blocks.', 'norm1.', 'norm2.', 'mlp.fc1.', 'mlp.fc2.', 'attn.qkv.', 'attn.proj.',
             'norm_pre.', 'patch_embed.proj.', 'cls_token', 'pos_embed'),
            ('transformer.resblocks.', 'ln_1.', 'ln_2.', 'mlp.c_fc.', 'mlp.c_proj.',
             'attn.in_proj_', 'attn.out_proj.', 'ln_pre.', 'conv1.', 'class_embedding',
             'positional_embedding'),
        )
    )  # fmt: skip
    renamed = {'visual.proj': torch.zeros(32, 8), 'positional_embedding': torch.zeros(7, 16)}
    for name, tensor in state.items():
        for theirs, original in table.items():
            name = name.replace(theirs, original)
        name = name.replace('norm.', 'ln_post.') if name.startswith('norm.') else name
        renamed[f'visual.{name}'] = tensor.squeeze(0) if 'embedding' in name else tensor
    renamed['visual.class_embedding'] = renamed['visual.class_embedding'].squeeze(0)
    return renamed


@pytest.mark.parametrize('quick', [False, True])
def test_open_clip(quick, perturb, save, tmp_path):
    """Its activation is told by the JSON beside it, or asked for; never guessed."""
    act_layer = 'quick_gelu' if quick else 'gelu'
    source = perturb(vit(pre_norm=True, act_layer=act_layer))
    state = clip_names(source.state_dict())
    path = save(state)
    with pytest.raises(CheckpointError, match="say it by assume=dict.activation='gelu' or 'quick"):
        rebuild_backbone(path, assume=dict(num_heads=2))
    told = dict(num_heads=2, activation=act_layer, norm_eps=1e-6)
    backbone, report = rebuild_backbone(path, assume=told)
    images = torch.randn(2, 3, 32, 32)
    expected = source.forward_features(images)
    torch.testing.assert_close(backbone(images)[-1], expected, atol=1e-5, rtol=1e-5)
    assert report.network == 'visual.' and 'projection to the space of texts' in report.left_out

    vision = dict(layers=2, width=32, head_width=16, patch_size=8, image_size=32)
    config = dict(model_cfg=dict(vision_cfg=vision, quick_gelu=quick))
    torch.save(state, tmp_path / 'open_clip_pytorch_model.bin')
    (tmp_path / 'open_clip_config.json').write_text(json.dumps(config))
    told, _ = rebuild_backbone(tmp_path, assume=dict(norm_eps=1e-6))
    torch.testing.assert_close(told(images)[-1], expected, atol=1e-5, rtol=1e-5)


def test_quick_gelu_of_a_target_that_says_it(perturb, load, assert_same):
    source = perturb(vit(pre_norm=True, act_layer='quick_gelu'))
    assume = dict(activation='quick_gelu')
    with pytest.raises(CheckpointError, match='quick_gelu, the backbone gelu: set layer_cfgs=dict'):
        load(source.state_dict(), pre_norm=True, assume=assume)
    act_cfg = dict(act_cfg=dict(type='mmpretrain.QuickGELU'))
    model, _ = load(source.state_dict(), pre_norm=True, assume=assume, layer_cfgs=act_cfg)
    assert_same(model, source.forward_features, (32, 32))


@pytest.mark.parametrize('key, value', [('hidden_act', 'quick_gelu'), ('rope_theta', 10.0)])
def test_settings_of_config_json_are_not_ignored(key, value, perturb, load, tmp_path):
    """Nothing in the tensors shows them."""
    kind = 'DINOv3ViT' if key == 'rope_theta' else 'ViT'
    small = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=8)
    configuration, network = classes_of(kind)
    config = configuration(image_size=32, intermediate_size=64, **small, **{key: value})
    perturb(network(config)).save_pretrained(tmp_path)
    options = dict(rotary=True, layer_scale_init_value=0.1) if kind != 'ViT' else {}
    with pytest.raises(CheckpointError, match='quick_gelu|rotary of base 10, not 100'):
        load(tmp_path, **options)


@pytest.mark.slow
def test_windows_and_relative_positions_are_refused_by_name(perturb, save):
    state = vit(class_token=False, global_pool='avg').state_dict()
    for name in ('h', 'w'):
        state[f'blocks.0.attn.rel_pos_{name}'] = torch.randn(7, 16)
    for prefix, what in (
        ('image_encoder.', "SAM's image encoder"),
        ('backbone.net.', 'a ViTDet or SAM'),
    ):
        path = save({f'{prefix}{name}': tensor for name, tensor in state.items()})
        with pytest.raises(CheckpointError, match=f'{what}, with windows and relative positions'):
            rebuild_backbone(path)
        assert what in ' '.join(verify_checkpoint(path).networks[0].differences)


def test_eva_02_goes_into_timms(perturb, save):
    options = dict(embed_dim=24, depth=2, num_heads=2, img_size=28)
    source = perturb(timm.create_model('eva02_base_patch14_224', num_classes=0, **options))
    path = save(source.state_dict())
    with pytest.raises(CheckpointError, match='an EVA-02 .*take ibot_mm.TimmVisionTransformer'):
        rebuild_backbone(path, assume=dict(num_heads=2))
    model = TimmVisionTransformer('eva02_base_patch14_224', mask_token=False, **options).eval()
    load_weights(model, path)
    images = torch.randn(2, 3, 28, 28)
    torch.testing.assert_close(model(images)[-1][:, 1:], source.forward_features(images)[:, 1:])


@pytest.mark.parametrize('kind', ['Dinov2', 'Dinov2WithRegisters', 'DINOv3ViT'])
def test_transformers_into_timm(kind, perturb, tmp_path):
    options = dict(image_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    options |= dict(patch_size=8, mlp_ratio=2, intermediate_size=64, num_register_tokens=4)
    configuration, network = classes_of(kind)
    source = perturb(network(configuration(**options)))
    source.save_pretrained(tmp_path)
    name = dict(
        Dinov2='vit_small_patch14_dinov2',
        Dinov2WithRegisters='vit_small_patch14_reg4_dinov2',
        DINOv3ViT='vit_small_patch16_dinov3_qkvb',
    )[kind]
    model = TimmVisionTransformer(name, mask_token=False, **SMALL).eval()
    load_weights(model, tmp_path)
    images = torch.randn(2, 3, 32, 32)
    hidden = source(images).last_hidden_state
    registers = 0 if kind == 'Dinov2' else 4
    expected = torch.cat([hidden[:, :1], hidden[:, 1 + registers :]], dim=1)
    torch.testing.assert_close(model(images)[-1], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('size', [6, 12, 16])
def test_patch_kernels_are_resampled_as_timm_does(size, perturb, load):
    source = perturb(vit(num_classes=0))
    model, report = load(source.state_dict(), patch_size=size, img_size=4 * size)
    expected = timm.layers.resample_patch_embed(source.patch_embed.proj.weight, [size, size])
    torch.testing.assert_close(model.patch_embed.projection.weight, expected, atol=1e-4, rtol=1e-4)
    assert (
        report.resized['patch_embed.projection.weight'] == f'from 8 x 8 to {size} x {size} pixels'
    )


@pytest.mark.parametrize('channels', [1, 4, 6])
def test_kernels_for_rgb_are_inflated_as_timm_does(channels, perturb, load):
    source = perturb(vit(num_classes=0))
    model, report = load(source.state_dict(), in_channels=channels)
    expected = timm.models.adapt_input_conv(channels, source.patch_embed.proj.weight.data)
    torch.testing.assert_close(model.patch_embed.projection.weight.data, expected)
    assert f'from RGB to {channels} channels' in str(report)


WRAPPERS = {
    'compiled': '_orig_mod.{}',
    'compiled, distributed': '_orig_mod.module.{}',
    'distributed, compiled': 'module._orig_mod.{}',
    'sharded': '_fsdp_wrapped_module.{}',
    'in blocks': 'backbone.{}',
}


@pytest.mark.parametrize('kind', WRAPPERS)
def test_names_of_wrappers(kind, perturb, load, assert_same):
    source = perturb(vit())
    state = {WRAPPERS[kind].format(name): tensor for name, tensor in source.state_dict().items()}
    for old, new in (('blocks.0.', 'blocks.0._checkpoint_wrapped_module.'),
                     ('blocks.1.', 'blocks.1._fsdp_wrapped_module._orig_mod.')):  # fmt: skip
        state = {name.replace(old, new): tensor for name, tensor in state.items()}
    model, _ = load(state)
    assert_same(model, source.forward_features, (32, 32))


def test_several_networks_in_one_file(perturb, load, save, prefixed):
    """I-JEPA's target is its teacher; others are told by what their names begin with."""
    networks = [perturb(vit()).state_dict() for _ in range(2)]
    jepa = dict(encoder=prefixed('module.', networks[0]))
    jepa |= dict(target_encoder=prefixed('module.', networks[1]), predictor={}, epoch=3)
    for options, index in ((dict(), 1), (dict(network='student'), 0), (dict(prefix='encoder'), 0)):
        model, _ = load(jepa, **options)
        assert torch.equal(model.cls_token, networks[index]['cls_token'])
    both = prefixed('left.', networks[0]) | prefixed('right.', networks[1])
    model, report = load(both, prefix='right')
    assert report.network == 'right.' and torch.equal(model.cls_token, networks[1]['cls_token'])
    with pytest.raises(CheckpointError, match=r"network 'middle': set prefix to one of .*'left.'"):
        load(both, prefix='middle')


def test_training_of_lightly(perturb, load, save, prefixed):
    """As Lightning stores a module of lightly: student and teacher, each a wrapped ViT of timm."""
    networks = dict(student=perturb(vit()).state_dict(), teacher=perturb(vit()).state_dict())
    state = dict()
    for role, weights in networks.items():
        state |= prefixed(f'{role}_backbone.vit.', weights)
        state |= {f'{role}_backbone.mask_token': torch.randn(1, 1, 32)}
        state |= {f'{role}_head.layers.0.weight': torch.randn(8, 32)}
    content = {
        'epoch': 3,
        'global_step': 40,
        'pytorch-lightning_version': '2.5.0',
        'state_dict': state,
        'loops': dict(fit_loop=dict(state_dict={}, epoch_progress=dict(total=dict(ready=4)))),
        'callbacks': dict(ModelCheckpoint=dict(best_model_path='', best_k_models={})),
        'optimizer_states': [dict(state={0: dict(exp_avg=torch.ones(1))}, param_groups=[])],
        'lr_schedulers': [dict(last_epoch=3)],
        'hparams_name': 'kwargs',
        'hyper_parameters': dict(lr=0.1),
    }
    cases = (
        ({}, 'teacher'),
        (dict(network='student'), 'student'),
        (dict(prefix='teacher_backbone'), 'teacher'),
        (dict(prefix='student_backbone.vit.'), 'student'),
    )
    for options, role in cases:
        model, report = load(content, **options)
        assert report.network == f'state_dict.{role}_backbone.vit.'
        assert torch.equal(model.cls_token, networks[role]['cls_token'])


def test_a_momentum_network_is_asked_for(perturb, load, prefixed):
    """That of BYOL and MoCo in lightly: neither its own name nor the other says which is wanted."""
    online, average = perturb(vit()).state_dict(), perturb(vit()).state_dict()
    both = prefixed('backbone.', online) | prefixed('backbone_momentum.', average)
    with pytest.raises(CheckpointError, match="several networks.*'state_dict.backbone_momentum.'"):
        load(dict(state_dict=both))
    model, _ = load(dict(state_dict=both), prefix='backbone_momentum')
    assert torch.equal(model.cls_token, average['cls_token'])


def test_distributed_checkpoint(perturb, tmp_path):
    source = perturb(vit()).state_dict()
    content = dict(teacher=dict(backbone=dict(source)), epoch=3, optimizer=dict(x=torch.ones(1)))
    dcp.save(content, checkpoint_id=tmp_path / 'folder')
    opened = Checkpoint.open(tmp_path / 'folder')
    assert set(opened.tensors) == {f'teacher.backbone.{name}' for name in source}
    for name, tensor in source.items():
        assert torch.equal(opened.tensors[f'teacher.backbone.{name}'], tensor)
    (tmp_path / 'folder/__0_0.distcp').unlink()
    with pytest.raises(CheckpointError, match='which is not there: get the whole folder'):
        Checkpoint.open(tmp_path / 'folder')


class Trap:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (self.trace, 'w')


@pytest.mark.parametrize('name', ['x.pkl', '.metadata'])
def test_no_code_of_a_pickle_is_run(name, tmp_path):
    trace = tmp_path / 'trace'
    content = dict(other=Trap(str(trace)))
    (tmp_path / name).write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(CheckpointError, match='io.open'):
        Checkpoint.open(tmp_path / name if name != '.metadata' else tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize('protocol', [2, 4])
def test_pickle_of_detectron2(protocol, perturb, load, assert_same, tmp_path):
    source = perturb(vit())
    arrays = {f'backbone.net.{n}': t.numpy() for n, t in source.state_dict().items()}
    content = dict(model=arrays, __author__='third party', matching_heuristics=True)
    (tmp_path / 'model.pkl').write_bytes(pickle.dumps(content, protocol=protocol))
    model, _ = load(tmp_path / 'model.pkl')
    assert_same(model, source.forward_features, (32, 32))


def test_deepspeed(perturb, load, assert_same, tmp_path):
    source = perturb(vit())
    folder = tmp_path / 'global_step7'
    folder.mkdir()
    (tmp_path / 'latest').write_text('global_step7')
    state = {f'backbone.{n}': t for n, t in source.state_dict().items()}
    torch.save(dict(module=state, ds_version='0.15'), folder / 'mp_rank_00_model_states.pt')
    model, _ = load(tmp_path)
    assert_same(model, source.forward_features, (32, 32))
    torch.save(dict(module={}), folder / 'zero_pp_rank_0_mp_rank_00_model_states.pt')
    with pytest.raises(CheckpointError, match='stage 3 of ZeRO: join them'):
        load(tmp_path)


@pytest.mark.parametrize(
    'content', ['{', '{}', '[1]', '{"weight_map": 3}', '{"weight_map": [1]}'], ids=str
)
def test_bad_index(content, tmp_path):
    (tmp_path / 'model.safetensors.index.json').write_text(content)
    with pytest.raises(CheckpointError, match='is not an index of files with weights'):
        Checkpoint.open(tmp_path)


def test_program_of_torch_export(tmp_path):
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
    torch.export.save(program, tmp_path / 'x.pt2')
    with pytest.raises(CheckpointError, match='a program of torch.export'):
        Checkpoint.open(tmp_path / 'x.pt2')


SWIN = dict(embed_dim=8, depths=(2, 2), num_heads=(1, 2), window_size=4, img_size=32)


def timm_swin(**kwargs):
    return timm.models.SwinTransformer(**SWIN | kwargs)


@pytest.mark.parametrize('of', ['timm', 'Microsoft', 'SimMIM', 'transformers'])
def test_swins(of, perturb, save, tmp_path):
    """With a classifier, with masks of windows, with a decoder, with three tensors for one.

    All of their norms have an eps of 1e-5, and features of small images show it.
    """
    source = perturb(timm_swin(num_classes=3))
    torch.nn.init.normal_(source.patch_embed.proj.weight, std=1e-3)
    state = dict(source.state_dict())
    if of != 'timm':  # which keeps the merging with the stage that follows
        state = {n.replace('layers.1.downsample', 'layers.0.downsample'): t
                 for n, t in state.items()}  # fmt: skip
        state['layers.0.blocks.1.attn_mask'] = torch.zeros(4, 16, 16)
        state = {n.replace('head.fc.', 'head.'): t for n, t in state.items()}
    if of == 'SimMIM':
        state = {f'encoder.{n}': t for n, t in state.items()}
        state |= {'encoder.mask_token': torch.ones(1, 1, 8), 'decoder.0.weight': torch.zeros(3, 3)}
    images = torch.randn(2, 3, 32, 32)
    expected = source.forward_features(images).flatten(1, 2)
    if of == 'transformers':
        config = transformers.SwinConfig(
            image_size=32, patch_size=4, embed_dim=8, depths=[2, 2], num_heads=[1, 2],
            window_size=4,
        )  # fmt: skip
        model = perturb(transformers.SwinModel(config, add_pooling_layer=False))
        torch.nn.init.normal_(model.embeddings.patch_embeddings.projection.weight, std=1e-3)
        model.save_pretrained(tmp_path)
        expected, path = model(images).last_hidden_state, tmp_path
    else:
        path = save(state)
    backbone, report = rebuild_backbone(path, assume=dict(img_size=32))
    tokens = backbone(images)[-1][:, 1:]
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)
    assert (backbone.mask_token is not None) == (of == 'SimMIM')


def test_swin_v2_is_named(save):
    state = timm.models.SwinTransformerV2(
        embed_dim=8, depths=(1, 1), num_heads=(1, 1), window_size=4, img_size=32
    ).state_dict()
    path = save(state)
    with pytest.raises(CheckpointError, match='a Swin Transformer v2'):
        rebuild_backbone(path)
    arch = dict(embed_dims=8, depths=[1, 1], num_heads=[1, 1])
    with pytest.raises(CheckpointError, match='a Swin Transformer v2'):
        load_weights(MaskedSwinTransformer(arch=arch, img_size=32, window_size=4), path)


@pytest.mark.parametrize('kind', ['VisionTransformer', 'BEiT', 'MAE'])
def test_backbones_of_mmseg(kind, perturb, save):
    """Through ``init_cfg``, which mmseg's own code would read another way."""
    backbones = pytest.importorskip('mmseg.models.backbones')
    source = perturb(vit(init_values=0.1) if kind != 'VisionTransformer' else vit())
    path = save(source.state_dict())
    assume = dict(num_heads=2)
    init_cfg = dict(type='ibot_mm.Pretrained', checkpoint=path, assume=assume)
    options = dict(img_size=(32, 32), patch_size=8, num_layers=2, num_heads=2, mlp_ratio=2)
    options |= dict(embed_dims=32, norm_cfg=dict(type='LN', eps=1e-6), init_cfg=init_cfg)
    if kind != 'VisionTransformer':
        with pytest.raises(CheckpointError, match='positions in the checkpoint are learned'):
            getattr(backbones, kind)(**options).init_weights()
        return
    model = backbones.VisionTransformer(final_norm=True, patch_bias=True, **options)
    model.init_weights()
    model.eval()
    images = torch.randn(1, 3, 32, 32)
    expected = source.forward_features(images)[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(model(images)[-1], expected, atol=1e-5, rtol=1e-5)


def test_beit_of_mmseg(perturb, save):
    backbones = pytest.importorskip('mmseg.models.backbones')
    options = dict(use_rel_pos_bias=True, use_abs_pos_emb=False, init_values=0.1)
    source = perturb(timm.models.Beit(**TIMM, **options))
    path = save(source.state_dict())
    init_cfg = dict(type='ibot_mm.Pretrained', checkpoint=path)
    model = backbones.BEiT(
        img_size=(32, 32), patch_size=8, embed_dims=32, num_layers=2, num_heads=2, mlp_ratio=2,
        norm_cfg=dict(type='LN', eps=1e-6), init_values=0.1, final_norm=False, init_cfg=init_cfg,
    )  # fmt: skip
    model.init_weights()
    for i, block in enumerate(source.blocks):
        layer = model.layers[i]
        assert torch.equal(layer.gamma_1, block.gamma_1)
        assert torch.equal(layer.attn.qkv.weight, block.attn.qkv.weight)
        assert torch.equal(layer.attn.q_bias, block.attn.q_bias)
        table = block.attn.relative_position_bias_table
        assert torch.equal(layer.attn.relative_position_bias_table, table)
