# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Fixed tokenizers in the teacher's place."""

import runpy
from pathlib import Path

import pytest
import torch

from ibot_mm.functional.token_selection import masked_patches
from ibot_mm.models import (
    IBOT,
    ClusterTokenizer,
    FrozenTokenizer,
    IBOTNeck,
    MaskedVisionTransformer,
)

TOP = Path(__file__).parents[2]
ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
BACKBONE = dict(
    type='ibot_mm.MaskedVisionTransformer', arch=ARCH, img_size=16, patch_size=4, mask_token=False
)
WIDTHS = dict(in_channels=16, hidden_channels=12, bottleneck_channels=6)
NECK = dict(type='ibot_mm.IBOTNeck', num_prototypes=8, **WIDTHS)


@pytest.fixture
def checkpoint(tmp_path):
    """A pre-training's checkpoint, its teacher's backbone and neck."""
    torch.manual_seed(3)
    backbone = MaskedVisionTransformer(arch=ARCH, img_size=16, patch_size=4, mask_token=False)
    neck = IBOTNeck(num_prototypes=8, **WIDTHS)
    state = {}
    for part, module in dict(backbone=backbone, neck=neck).items():
        for name, parameter in module.named_parameters():
            if 'original0' not in name:
                torch.nn.init.normal_(parameter, std=0.3)
        state |= {f'teacher.{part}.{name}': t for name, t in module.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'epoch_1.pth')
    return str(tmp_path / 'epoch_1.pth'), backbone.eval(), neck.eval()


def frozen(path):
    return dict(
        type='ibot_mm.FrozenTokenizer',
        backbone=dict(BACKBONE, init_cfg=dict(type='ibot_mm.Pretrained', checkpoint=path)),
        neck=dict(NECK, init_cfg=dict(type='ibot_mm.PretrainedHead', checkpoint=path)),
    )


def build(tokenizer=None, num_patch_prototypes=8):
    torch.manual_seed(0)
    neck = dict(NECK, num_prototypes=10, num_patch_prototypes=num_patch_prototypes)
    head = dict(num_prototypes=10, num_patch_prototypes=num_patch_prototypes)
    model = IBOT(
        backbone={**BACKBONE, 'mask_token': True},
        neck=dict(neck, shared_head=False),
        head=dict(type='ibot_mm.IBOTHead', **head),
        tokenizer=tokenizer,
    )
    model.init_weights()
    return model.train()


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    masks = torch.rand(4, 2, 4, 4) < 0.4
    return dict(global_crops=torch.randn(4, 2, 3, 16, 16), masks=masks)


def test_frozen_tokens_are_the_targets_of_patches_alone(checkpoint, inputs):
    path, backbone, neck = checkpoint
    model, online = build(frozen(path)), build()
    online.load_state_dict(model.state_dict(), strict=False)
    losses, expected = model.loss(inputs), online.loss(inputs)
    torch.testing.assert_close(losses['loss_cls'], expected['loss_cls'])
    assert losses['loss_patch'] != expected['loss_patch']

    images = inputs['global_crops'].transpose(0, 1).flatten(0, 1)
    patches = masked_patches(inputs['masks'])
    logits, mean = model.tokenizer(images, patches)
    with torch.no_grad():
        wanted = neck(backbone(images)[-1])[1]  # (8, 16, 8)
    torch.testing.assert_close(logits, wanted.flatten(0, 1)[patches])
    torch.testing.assert_close(mean, wanted.mean(dim=(0, 1)))
    torch.testing.assert_close(model.head.patch_center, 0.1 * mean)


def test_no_tokenizer_is_trained(checkpoint, inputs):
    model = build(frozen(checkpoint[0]))
    sum(model.loss(inputs)[name] for name in ('loss_cls', 'loss_patch')).backward()
    model.update_teacher(0.5)
    assert not any(p.requires_grad for p in model.tokenizer.parameters())
    assert not any(module.training for module in model.tokenizer.modules())
    stored = torch.load(checkpoint[0])['state_dict']['teacher.neck.layers.0.weight']
    assert torch.equal(model.tokenizer.neck.layers[0].weight, stored)


def test_random_tokens_are_fixed(inputs):
    model = build(dict(type='ibot_mm.RandomTokenizer', backbone=BACKBONE, neck=NECK))
    images = inputs['global_crops'].flatten(0, 1)
    first = model.tokenizer(images, torch.arange(9))[0]
    model.loss(inputs)
    assert torch.equal(model.tokenizer(images, torch.arange(9))[0], first)
    assert first.shape == (9, 8) and first.std() > 0


@pytest.mark.parametrize('backbone', [None, BACKBONE], ids=['pixels', 'features'])
def test_clusters_by_distance(backbone, inputs, tmp_path):
    channels = 16 if backbone else 48
    centers, scale = torch.randn(8, channels), torch.tensor(2.0)
    torch.save(dict(centers=centers, scale=scale), tmp_path / 'clusters.pth')
    tokenizer = dict(type='ibot_mm.ClusterTokenizer', num_tokens=8, patch_size=4)
    tokenizer |= dict(clusters=str(tmp_path / 'clusters.pth'), backbone=backbone)
    model = build(tokenizer)
    images = inputs['global_crops'].flatten(0, 1)
    every = torch.arange(8 * 16)
    logits, mean = model.tokenizer(images, every)
    features = model.tokenizer.features(images).flatten(0, 1)
    expected = -(features[:, None] - centers).square().sum(-1) / 2
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mean, expected.mean(0), rtol=1e-4, atol=1e-4)
    assert model.loss(inputs)['loss_patch'].isfinite()
    if not backbone:  # patches in the order of the backbone's
        patch = images[0, :, 4:8, 8:12]  # second row, third column
        torch.testing.assert_close(features[6], patch.flatten())


@pytest.mark.parametrize('part', ['backbone', 'neck'])
def test_a_frozen_tokenizer_needs_its_checkpoints(checkpoint, part):
    cfg = {key: dict(value) for key, value in frozen(checkpoint[0]).items() if key != 'type'}
    del cfg[part]['init_cfg']
    with pytest.raises(ValueError, match=f'{part}.init_cfg names no checkpoint.*RandomTokenizer'):
        FrozenTokenizer(**cfg)


def test_another_number_of_tokens(checkpoint):
    with pytest.raises(ValueError, match='tokenizer has 8 tokens and num_patch_prototypes is 6'):
        build(frozen(checkpoint[0]), num_patch_prototypes=6)


@pytest.mark.parametrize(
    'content, error, message',
    [
        (None, FileNotFoundError, 'Fit the clusters first: python tools/fit_clusters.py'),
        (
            dict(centers=torch.zeros(7, 48), scale=torch.ones(())),
            ValueError,
            r"'centers'.*\(7, 48\)",
        ),
        (dict(centers=torch.zeros(8, 48)), ValueError, "'scale' has shape nothing"),
    ],
)
def test_clusters_that_do_not_fit(tmp_path, content, error, message):
    path = tmp_path / 'clusters.pth'
    if content:
        torch.save(content, path)
    tokenizer = ClusterTokenizer(num_tokens=8, patch_size=4, clusters=str(path))
    with pytest.raises(error, match=message):
        tokenizer.init_weights()


@pytest.fixture
def fit(tiny_config, tmp_path):
    """Run the tool on the small training with a tokenizer of clusters of pixels."""

    def run(num_tokens=6, **tokenizer):
        cfg = tiny_config
        cfg.model.tokenizer = dict(
            type='ibot_mm.ClusterTokenizer', num_tokens=num_tokens, patch_size=4,
            clusters=str(tmp_path / 'clusters.pth'), **tokenizer,
        )  # fmt: skip
        path = tmp_path / 'config.py'
        cfg.dump(path)
        main = runpy.run_path(str(TOP / 'tools/fit_clusters.py'))['main']
        main([str(path), '--out', cfg.model.tokenizer.clusters, '--patches', '64'])
        return cfg

    return run


@pytest.mark.slow
def test_fitted_clusters_train(fit, train, capsys):
    cfg = fit()
    assert 'from its center' in capsys.readouterr().out
    cfg.model.neck.update(shared_head=False, num_patch_prototypes=6)
    cfg.model.head.update(num_patch_prototypes=6, patch_centering='none')
    cfg.train_cfg.max_epochs = 2
    runner = train(cfg)
    centers = torch.load(cfg.model.tokenizer.clusters)['centers']
    assert torch.equal(runner.model.tokenizer.centers, centers)
    assert runner.message_hub.get_scalar('train/loss_patch').current() > 0


def test_fewer_patches_than_clusters(fit):
    with pytest.raises(SystemExit, match='give 64 patches, fewer than num_tokens=65'):
        fit(num_tokens=65)


def test_a_config_without_clusters(tmp_path):
    (tmp_path / 'config.py').write_text('model = dict()\n')
    main = runpy.run_path(str(TOP / 'tools/fit_clusters.py'))['main']
    with pytest.raises(SystemExit, match='not an ibot_mm.ClusterTokenizer: there is none'):
        main([str(tmp_path / 'config.py'), '--out', str(tmp_path / 'x.pth')])
