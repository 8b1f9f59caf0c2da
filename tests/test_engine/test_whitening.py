# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The patch embedding starts from the data, in student and teacher, once."""

import pytest
import torch
from mmengine.hooks import Hook

from ibot_mm.engine.hooks import WhitenPatchesHook


class Look(Hook):
    """Keeps the outputs of the patch embedding before the first step."""

    def before_train(self, runner):
        self.layer = runner.model.patch_projection()
        self.teacher = runner.model.teacher.backbone.patch_embed.projection
        self.weights = self.layer.weight.clone(), self.teacher.weight.clone()
        batch = next(iter(runner.train_dataloader))
        self.crops = runner.model.data_preprocessor(batch, training=True)['inputs']['global_crops']
        self.outputs = self.layer(self.crops.flatten(0, 1)).detach()


def test_outputs_have_variance_one(tiny_config, train):
    tiny_config.default_hooks.whitening = dict(type='ibot_mm.WhitenPatchesHook')
    tiny_config.train_cfg.update(max_epochs=3)
    look = Look()
    runner = train(tiny_config, look)
    assert torch.equal(*look.weights)
    assert look.outputs.square().mean() == pytest.approx(1, rel=0.3)
    assert look.outputs.mean().abs() < 0.2
    weights = look.weights[0]
    tiny_config.load_from, tiny_config.resume = str(runner.work_dir) + '/epoch_2.pth', True
    resumed = Look()
    train(tiny_config, resumed)
    assert not torch.equal(resumed.weights[0], weights)


class Overlap(Hook):
    """Makes patches overlap before any other hook looks."""

    priority = 'HIGHEST'

    def before_train(self, runner):
        runner.model.backbone.patch_embed.projection.stride = (2, 2)


@pytest.mark.parametrize('options', [dict(num_images=1), dict(eps=0.0)])
def test_numbers_out_of_range(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        WhitenPatchesHook(**options)


def test_a_backbone_that_embeds_in_another_way(tiny_config, train):
    tiny_config.default_hooks.whitening = dict(type='ibot_mm.WhitenPatchesHook')
    with pytest.raises(TypeError, match='does not embed patches by one convolution'):
        train(tiny_config, Overlap())
