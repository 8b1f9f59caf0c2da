# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Trainings that start from existing weights, by the recipe of the configs named *_continue."""

import argparse
from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from ibot_mm.checkpoint import CheckpointError

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[2] / 'configs/pretrain/ibot_vits16_continue.py'
SIZES = dict(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2)
DINOV2 = dict(init_values=0.5, reg_tokens=4, no_embed_class=True)


def vit(**kwargs):
    """The tiny network as timm has it, all weights moved from their start."""
    torch.manual_seed(1)
    model = timm.models.VisionTransformer(**(SIZES | dict(num_classes=5) | kwargs)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def published(state):
    """``checkpoint.pth`` of the published code: two networks with heads, settings."""
    bare = {name: tensor for name, tensor in state.items() if not name.startswith('head.')}
    bare['masked_embed'] = torch.full((1, 16), 0.25)
    head = {'head.mlp.0.weight': torch.ones(8, 16), 'head.last_layer.weight_v': torch.ones(24, 8)}
    teacher = prefixed('backbone.', bare) | head
    student = prefixed('module.', {name: tensor + 1 for name, tensor in teacher.items()})
    return dict(student=student, teacher=teacher, epoch=3, args=argparse.Namespace(arch='vit'))


def mae(state):
    """With the decoder of MAE, whose mask token is none of ours."""
    decoder = dict(mask_token=torch.ones(1, 1, 8), decoder_pos_embed=torch.ones(1, 17, 8))
    bare = {name: tensor for name, tensor in state.items() if not name.startswith('head.')}
    return dict(model=bare | decoder)


FORMATS = {
    'timm': (lambda state: state, {}, {}),
    'published iBOT, all': (published, {}, {}),
    'published iBOT, teacher': (lambda s: dict(state_dict=published(s)['teacher']), {}, {}),
    'MAE': (mae, {}, {}),
    'layer scale and registers': (
        lambda state: state,
        DINOV2,
        dict(layer_scale_init_value=1e-5, num_registers=4),
    ),
}


@pytest.fixture
def config(tiny_config, tmp_path):
    """The recipe around the tiny network, 4 epochs of 4 iterations."""
    recipe = Config.fromfile(CONFIG)
    for key in ('optim_wrapper', 'param_scheduler', 'default_hooks', 'auto_scale_lr'):
        tiny_config[key] = recipe[key]
    tiny_config.model.backbone.init_cfg = recipe.model.backbone.init_cfg
    tiny_config.model.backbone.init_cfg.checkpoint = str(tmp_path / 'start.pth')
    tiny_config.train_dataloader.batch_size = 2
    tiny_config.train_cfg.update(max_epochs=4, val_interval=4)
    tiny_config.merge_from_dict(
        {
            'auto_scale_lr.enable': False,
            'optim_wrapper.optimizer.lr': 1e-2,
            'param_scheduler.0.warmup': 1,
            'default_hooks.temperature.warmup_epochs': 2,
            'default_hooks.prototypes.epochs': 1,
            'default_hooks.patch_embedding.epochs': 2,
            'default_hooks.checkpoint': None,
        }
    )
    return tiny_config


class Follow(Hook):
    """Looks at the start, and keeps epoch, rates and patch embedding of each iteration."""

    priority = 'VERY_LOW'

    def __init__(self, look=lambda model: None):
        self.look, self.values = look, []

    def before_train(self, runner):
        self.look(runner.model)
        self.start = {name: t.clone() for name, t in runner.model.state_dict().items()}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        groups = runner.optim_wrapper.optimizer.param_groups
        embedding = runner.model.backbone.patch_embed.projection.weight.detach().clone()
        self.values.append((runner.epoch, [group['lr'] for group in groups], embedding))


@pytest.mark.parametrize('write, theirs, ours', FORMATS.values(), ids=FORMATS)
def test_student_and_teacher_start_from_the_weights_with_new_heads(
    config, train, write, theirs, ours
):
    source = vit(**theirs)
    config.model.backbone.update(ours)
    config.model.backbone.drop_path_rate = 0.0
    torch.save(write(source.state_dict()), config.model.backbone.init_cfg.checkpoint)
    images = torch.randn(2, 3, 16, 16)

    def look(model):
        with torch.no_grad():
            expected = source.forward_features(images)
            expected = torch.cat([expected[:, :1], expected[:, -16:]], dim=1)
            for backbone in (model.backbone, model.teacher.backbone):
                torch.testing.assert_close(backbone.eval()(images)[-1], expected)
        assert not (model.neck.layers[0].weight == 1).any()  # not those of the file

    follow = Follow(look)
    runner = train(config, follow)
    for name, tensor in follow.start.items():
        if name.startswith('teacher.'):
            assert torch.equal(tensor, follow.start[name.removeprefix('teacher.')]), name
    # What the recipe does with it.
    for epoch, rates, embedding in follow.values:
        frozen = torch.equal(embedding, follow.start['backbone.patch_embed.projection.weight'])
        assert frozen == (epoch < 2)
        assert rates[-1] == pytest.approx(rates[0] * 0.8**3)  # layers 1, 0 and the embedding
    assert follow.values[-2][1][0] < 0.1 * max(rates[0] for _, rates, _ in follow.values)
    end = runner.model.state_dict()
    assert all(tensor.isfinite().all() for tensor in end.values())
    # Weights that keep a teacher of momentum 0.999 near its start, and a student that moves.
    name = 'backbone.layers.1.attn.qkv.weight'
    moved = {n: (end[n] - follow.start[n]).norm() for n in (name, f'teacher.{name}')}
    assert 0 < moved[f'teacher.{name}'] < 0.05 * moved[name]
    history = runner.message_hub.get_scalar('val/knn/top1_k1').data[0]
    assert len(history) == 2 and 'knn/top1_k1' in runner.message_hub.get_info('start_metrics')


def test_masks_use_the_token_of_the_file(config, train):
    torch.save(published(vit().state_dict()), config.model.backbone.init_cfg.checkpoint)
    train(config, follow := Follow())
    assert torch.equal(follow.start['backbone.mask_token'], torch.full((1, 1, 16), 0.25))


@pytest.mark.parametrize(
    'content, message',
    [
        (lambda: vit(embed_dim=32).state_dict(), 'channels: 32 in the checkpoint.*embed_dims=32'),
        (lambda: vit(depth=3).state_dict(), 'number of layers: 3 in the .*set num_layers=3'),
        (lambda: vit(**DINOV2).state_dict(), '(?s)num_registers=4.*layer_scale_init_value=1e-5'),
        (lambda: {'layer1.0.conv1.weight': torch.ones(1)}, 'holds a ResNet'),
        (None, 'The checkpoint .*start.pth is not there'),
    ],
    ids=['channels', 'layers', 'parts', 'ResNet', 'missing'],
)
def test_weights_that_do_not_fit_are_an_error_before_anything_runs(config, train, content, message):
    path = Path(config.model.backbone.init_cfg.checkpoint)
    if content:
        torch.save(content(), path)

    def look(model):
        raise AssertionError('training has begun')

    with pytest.raises(CheckpointError, match=message) as error:
        train(config, Follow(look))
    assert str(path) in str(error.value)
