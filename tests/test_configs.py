# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Every config resolves, builds, and says what its recipe says."""

import copy
import functools
import runpy
import shlex
from pathlib import Path

import modelindex
import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, METRICS, MODELS, TRANSFORMS, init_default_scope

from ibot_mm.checkpoint import backbone_config, export_backbone, locate, write_export
from ibot_mm.datasets.named_steps import list_steps

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parents[1] / 'configs'
PRETRAIN = sorted((CONFIGS / 'pretrain').glob('*.py'))
CONTINUE = [path.stem for path in PRETRAIN if path.stem.endswith('_continue')]

OTHER_SENSORS = ('ibot_vits16_multispectral', 'ibot_vits16_grey16')
INDEX = CONFIGS.parent / 'model-index.yml'

# epochs, lr at 1024 images, min lr, warm-up of the temperature, frozen epochs, clip, drop path,
# fixed gain, global scale, local scale: the published recipes.
RECIPES = {
    'ibot_vits16': (800, 2e-3, 1e-6, 30, 1, 3.0, 0.1, False, (0.25, 1.0), (0.05, 0.25)),
    'ibot_vitb16': (400, 3e-3, 2e-6, 50, 3, 0.3, 0.1, True, (0.32, 1.0), (0.05, 0.32)),
    'ibot_vitb16_rand': (400, 3e-3, 2e-6, 50, 3, 0.3, 0.1, True, (0.32, 1.0), (0.05, 0.32)),
    'ibot_vitl16': (250, 3e-3, 2e-6, 50, 3, 0.3, 0.4, True, (0.32, 1.0), (0.05, 0.32)),
    'ibot_vitl16_rand': (250, 3e-3, 2e-6, 50, 3, 0.3, 0.4, True, (0.32, 1.0), (0.05, 0.32)),
}


@functools.cache
def _read(path: Path) -> Config:
    return Config.fromfile(path)


def read(path: Path) -> Config:
    """A config of the project, read from the disk once, since that takes up to seconds."""
    return copy.deepcopy(_read(path))


@pytest.mark.parametrize('path', PRETRAIN, ids=lambda path: path.stem)
def test_everything_named_in_a_config_exists(path):
    cfg = read(path)
    init_default_scope(cfg.default_scope)
    # mmpretrain's Swin reads numbers from tensors while it is built, so these need memory.
    with torch.device('cpu' if 'swin' in path.stem else 'meta'):
        assert MODELS.build(cfg.model).neck.num_prototypes == cfg.model.head.num_prototypes
    for transform in list_steps(cfg.train_dataloader.dataset.pipeline):
        TRANSFORMS.build(transform)
    for hook in cfg.default_hooks.values():
        with HOOKS.switch_scope_and_registry(hook.get('_scope_')) as registry:
            assert registry.get(hook.type), hook.type
        if hook.type.startswith('ibot_mm.'):
            HOOKS.build(hook)
    METRICS.build(cfg.val_evaluator)


@pytest.mark.parametrize('name, recipe', RECIPES.items())
def test_recipes(name, recipe):
    cfg = read(CONFIGS / f'pretrain/{name}.py')
    crops = cfg.train_dataloader.dataset.pipeline.crops
    assert (
        cfg.train_cfg.max_epochs,
        pytest.approx(cfg.optim_wrapper.optimizer.lr),
        cfg.param_scheduler[0].final,
        cfg.default_hooks.temperature.warmup_epochs,
        cfg.default_hooks.prototypes.epochs,
        cfg.optim_wrapper.clip_grad.max_norm,
        cfg.model.backbone.drop_path_rate,
        cfg.model.neck.norm_last_layer,
        tuple(crops.global_crop_scale),
        tuple(crops.local_crop_scale),
    ) == recipe
    masks = cfg.train_dataloader.dataset.pipeline.masks
    expected = ((0.7, 0.05), 'random') if 'rand' in name else ((0.3, 0.2), 'block')
    assert (tuple(masks.ratio[1]), masks.shape) == expected
    assert tuple(masks.ratio[0]) == (0.0, 0.0)
    # What all share.
    assert (crops.num_local_crops, crops.local_crop_size) == (10, 96)
    assert cfg.model.neck.num_prototypes == 8192 and cfg.model.neck.shared_head
    assert cfg.auto_scale_lr == dict(base_batch_size=1024, enable=True)
    assert 1024 % cfg.train_dataloader.batch_size == 0
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.04
    assert cfg.param_scheduler[1].final_ratio == 10
    assert cfg.param_scheduler[0].warmup == 10
    assert cfg.default_hooks.teacher.momentum == 0.996


@pytest.mark.parametrize('path', PRETRAIN, ids=lambda path: path.stem)
def test_crops_and_masks_fit_the_patches(path):
    cfg = read(path)
    crops, masks = (cfg.train_dataloader.dataset.pipeline[name] for name in ('crops', 'masks'))
    patch = 32 if 'swin' in path.stem else cfg.model.backbone.get('patch_size', 16)
    assert masks.patch_size == patch
    assert crops.global_crop_size % patch == crops.local_crop_size % patch == 0


@pytest.mark.parametrize('path', PRETRAIN, ids=lambda path: path.stem)
def test_training_and_knn_read_images_alike(path):
    cfg = read(path)
    splits = [loader.dataset[split] for loader in (cfg.val_dataloader, cfg.test_dataloader)
              for split in ('bank', 'query')]  # fmt: skip
    steps = [dataset.pipeline.load for dataset in (cfg.train_dataloader.dataset, *splits)]
    assert all(step == steps[0] for step in steps)
    if path.stem not in OTHER_SENSORS:
        assert steps[0] == dict(type='ibot_mm.LoadImage')


@pytest.mark.parametrize('name', CONTINUE)
def test_continuing_is_gentler_than_its_recipe(name):
    """Less and shorter of all that moves the weights, and the hooks that watch over them."""
    cfg = read(CONFIGS / f'pretrain/{name}.py')
    start = name.partition('_continue')[0]
    start = 'ibot_vits16' if 'dino' in start else start
    base = read(CONFIGS / f'pretrain/{start}.py')

    def rate(cfg):
        return cfg.optim_wrapper.optimizer.lr / cfg.auto_scale_lr.base_batch_size

    hooks, base_hooks = cfg.default_hooks, base.default_hooks
    assert rate(cfg) < rate(base)
    assert cfg.param_scheduler[0].warmup < base.param_scheduler[0].warmup
    assert cfg.param_scheduler[0].final is None  # which would raise the rates of the first layers
    assert hooks.temperature.warmup_epochs < base_hooks.temperature.warmup_epochs
    assert hooks.teacher.momentum > base_hooks.teacher.momentum
    assert cfg.optim_wrapper.constructor == 'ibot_mm.LayerDecayConstructor'
    assert 0 < cfg.optim_wrapper.paramwise_cfg.layer_decay_rate < 1
    assert 0 < hooks.patch_embedding.epochs < cfg.train_cfg.max_epochs < base.train_cfg.max_epochs
    assert cfg.model.backbone.init_cfg.type == 'ibot_mm.Pretrained'
    assert {'ibot_mm.SkipBadStepsHook', 'ibot_mm.CompareWithStartHook'} <= {
        hook.type for hook in hooks.values()
    }


@pytest.mark.parametrize('registers', [0, 4])
def test_weights_of_dinov2_fit_their_configs(registers, tmp_path):
    """At a tiny width: patches, positions, layer scale, registers."""
    name = f'ibot_vitb14_dinov2{"_reg" if registers else ""}_continue'
    cfg = read(CONFIGS / f'pretrain/{name}.py')
    sizes = dict(embed_dim=16, depth=2, num_heads=2, reg_tokens=registers, num_classes=0)
    source = timm.models.VisionTransformer(img_size=518, patch_size=14, init_values=1e-5, **sizes)
    state = {n.replace('reg_token', 'register_tokens'): t for n, t in source.state_dict().items()}
    state['pos_embed'] = torch.randn(1, 1 + 37 * 37, 16)  # registers have no position
    state['mask_token'] = torch.randn(1, 16)
    torch.save(state, tmp_path / 'dinov2.pth')
    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=64)
    backbone = cfg.model.backbone.to_dict() | dict(arch=arch)
    backbone['init_cfg']['checkpoint'] = str(tmp_path / 'dinov2.pth')
    model = MODELS.build(backbone)
    model.init_weights()
    assert torch.equal(model.pos_embed, state['pos_embed'])
    assert torch.equal(model.mask_token[0], state['mask_token'])
    assert model(torch.randn(1, 3, 98, 98))[-1].shape == (1, 1 + 7 * 7, 16)


@pytest.mark.parametrize('name', [name for name in CONTINUE if 'dino' in name])
def test_losses_of_dinov2(name):
    model = read(CONFIGS / f'pretrain/{name}.py').model
    assert not model.neck.shared_head and not model.neck.shared_mlp
    assert model.head.centering == model.head.patch_centering == 'sinkhorn'
    assert model.regularizers.koleo == dict(type='ibot_mm.KoLeoLoss', weight=0.1)
    assert ('gram' in model.regularizers) == ('gram' in name)


def test_weights_of_dinov3_fit_their_config_and_its_anchor(tmp_path):
    """At a tiny width: rotary positions, registers, layer scale; both networks have them."""
    cfg = read(CONFIGS / 'pretrain/ibot_vitb16_dinov3_gram_continue.py')
    sizes = dict(embed_dim=16, depth=2, num_heads=2)
    source = timm.create_model('vit_base_patch16_dinov3_qkvb', num_classes=0, **sizes)
    torch.save(source.state_dict(), tmp_path / 'dinov3.pth')
    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=64)
    anchor = cfg.model.regularizers.gram
    for backbone in (cfg.model.backbone, anchor.backbone):
        backbone.arch = arch
        backbone.init_cfg.checkpoint = str(tmp_path / 'dinov3.pth')
    cfg.model.neck.update(in_channels=16, num_prototypes=8, hidden_channels=8)
    cfg.model.head.num_prototypes = 8
    model = MODELS.build(cfg.model)
    model.init_weights()
    images = torch.randn(1, 3, 64, 48)
    with torch.no_grad():
        tokens = source.forward_features(images)
    expected = torch.cat([tokens[:, :1], tokens[:, 5:]], dim=1)
    for backbone in (model.teacher.backbone, model.regularizers['gram'].backbone):
        torch.testing.assert_close(backbone.eval()(images)[-1], expected, rtol=1e-4, atol=1e-5)
    assert (anchor.weight, model.regularizers['gram'].within_image) == (2.0, True)
    # The start is the anchor: no loss where the student has moved nowhere and sees whole crops.
    tokens = model.backbone.eval()(images)[-1][None]
    assert model.regularizers['gram'](tokens, images) < 1e-8


# Published: k-NN, linear and fine-tuning on ImageNet-1K; box and mask AP on COCO; mIoU on ADE20K.
RESULTS = {
    'ibot_vits16': [75.2, 77.9, 82.3],
    'ibot_vitb16': [77.1, 79.5, 84.0],
    'ibot_vitb16_rand': [77.3, 79.8, 84.1],
    'ibot_vitl16': [78.0, 81.0, 84.8],
    'ibot_vitl16_rand': [77.7, 81.3, 85.0],
    'ibot_vitb16_22k': [71.1, 79.0, 84.4],
    'ibot_vitl16_22k': [72.9, 82.3, 86.6],
    'ibot_swint_w7': [75.3, 78.6],
    'ibot_swint_w14': [76.2, 79.3],
    'cascade_mask_rcnn_vits16_1x_coco': [49.4, 42.6],
    'cascade_mask_rcnn_vitb16_1x_coco': [51.2, 44.2],
    'upernet_vits16_512_160k_ade20k': [45.4],
    'upernet_vitb16_512_160k_ade20k': [50.0],
    'linear_vitb16_512_160k_ade20k': [38.3],
    'finetune_vitb16_100e_in1k': [84.0],
    'finetune_vitb16_22k_100e_in1k': [84.4],
    'finetune_vitb16_rand_100e_in1k': [84.1],
    'finetune_vitl16_22k_384_50e_in1k': [87.5],
    'finetune_vitl16_22k_50e_in1k': [86.6],
    'finetune_vitl16_22k_512_50e_in1k': [87.8],
    'finetune_vitl16_50e_in1k': [84.8],
    'finetune_vitl16_rand_50e_in1k': [85.0],
    'finetune_vits16_200e_in1k': [82.3],
    'linear_swint_w14_100e_in1k': [79.3],
    'linear_swint_w7_100e_in1k': [78.6],
    'linear_vitb16_100e_in1k': [79.5],
    'linear_vitb16_22k_100e_in1k': [79.0],
    'linear_vitb16_rand_100e_in1k': [79.8],
    'linear_vitl16_100e_in1k': [81.0],
    'linear_vitl16_22k_100e_in1k': [82.3],
    'linear_vitl16_rand_100e_in1k': [81.3],
    'linear_vits16_100e_in1k': [77.9],
    'semi_vits16_1000e_in1k_10percent': [75.1],
    'semi_vits16_1000e_in1k_1percent': [61.9],
    'semi_vits16_linear_1000e_in1k_10percent': [74.0],
    'semi_vits16_linear_1000e_in1k_1percent': [55.0],
    'transfer_vitb16_1000e_cars': [94.3],
    'transfer_vitb16_1000e_cifar10': [99.2],
    'transfer_vitb16_1000e_cifar100': [92.2],
    'transfer_vitb16_1000e_flowers102': [98.9],
    'transfer_vitb16_360e_inat18': [74.6],
    'transfer_vitb16_360e_inat19': [79.6],
    'transfer_vits16_1000e_cars': [94.0],
    'transfer_vits16_1000e_cifar10': [99.1],
    'transfer_vits16_1000e_cifar100': [90.7],
    'transfer_vits16_1000e_flowers102': [98.6],
    'transfer_vits16_360e_inat18': [73.7],
    'transfer_vits16_360e_inat19': [78.5],
    'unsupervised_vits16_800e_in1k': [43.4, 78.6, 32.8, 35.6],
}


@pytest.fixture(scope='module')
def index():
    loaded = modelindex.load(str(INDEX))
    loaded.build_models_with_collections()
    assert loaded.check(silent=True) in (None, [])
    return {model.name: model for model in loaded.models}


def test_index_lists_every_config_once(index):
    configs = {model.config for model in index.values()}
    assert len(configs) == len(index)
    there = CONFIGS.glob('*/*.py')
    leave_out = ('demo', '_ms')  # small data, and tests of what another config trains
    assert configs == {
        str(path.relative_to(CONFIGS.parent))
        for path in there
        if path.parent.name not in ('_base_', 'ablation')
        and not any(word in path.stem for word in leave_out)
    }
    assert all(Path(model.config).stem == name for name, model in index.items())


def test_index_tells_the_published_results(index):
    results = {
        name: [value for result in model.results for value in result.metrics.values()]
        for name, model in index.items()
        if model.results
    }
    assert results == RESULTS


def test_published_results_stand_in_the_configs(index):
    for name, values in RESULTS.items():
        comment = (CONFIGS.parent / index[name].config).read_text().partition('_base_')[0]
        for value in values:
            assert str(value) in comment, (name, value)


def test_index_tells_epochs_and_batch_of_the_configs(index):
    for name, model in index.items():
        cfg = read(CONFIGS.parent / model.config)
        assert model.metadata.batch_size == cfg.auto_scale_lr.base_batch_size, name
        if model.metadata.epochs:
            assert model.metadata.epochs == cfg.train_cfg.max_epochs, name


PUBLISHED = [f'ibot_{size}' for size in ('vits16', 'vitb16', 'vitb16_rand', 'vitl16', 'vitl16_rand',
             'vitb16_22k', 'vitl16_22k', 'swint_w7', 'swint_w14')]  # fmt: skip


def test_index_lists_the_published_checkpoints(index):
    assert [name for name, model in index.items() if model.weights] == PUBLISHED
    for name in PUBLISHED:
        model = index[name]
        origin = model.data['Converted From']
        network = 'student' if '22k' in name else 'teacher'
        assert model.weights == origin['Weights']
        assert origin['Weights'].endswith(f'/checkpoint_{network}.pth')
        assert origin['Full Checkpoint'].endswith('/checkpoint.pth')
        folder = origin['Weights'].rpartition('/')[0]
        assert all(origin[key].startswith(f'{folder}/') for key in ('Full Checkpoint', 'Settings'))
        assert origin['Code'] == 'https://github.com/bytedance/ibot'
    assert len({index[name].weights for name in PUBLISHED}) == len(PUBLISHED)


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_checkpoints_are_known_by_name(name, index, monkeypatch):
    """As ``checkpoint='ibot_mm::pretrain/...'``."""
    monkeypatch.setattr(locate, '_download', Path)
    assert locate.find_file(f'ibot_mm::pretrain/{name}') == Path(index[name].weights)


@pytest.mark.parametrize('name', PUBLISHED)
def test_commands_of_published_checkpoints(name, index, tmp_path, monkeypatch):
    """Both name tools and configs that are there, and do it on a small published checkpoint."""
    convert = shlex.split(index[name].data['Convert'])
    evaluate = shlex.split(index[name].data['Evaluate'])
    assert convert[:2] == ['python', 'tools/model_converters/convert_to_ibot_mm.py']
    assert convert[2:] == [f'ibot_mm::pretrain/{name}', f'{name}.pth']
    assert evaluate[:4] == ['python', 'tools/test.py', f'configs/pretrain/{name}.py', 'none']
    cfg = read(INDEX.parent / evaluate[2])
    small = dict(arch=dict(embed_dims=384, num_layers=1, num_heads=6, feedforward_channels=8))
    if 'swin' in name:
        small = dict(arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1]))
    source = MODELS.build(cfg.model.backbone.to_dict() | small | dict(mask_token='22k' in name))
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter)
    published = export_backbone(source, 'published')
    write_export(tmp_path / 'published.pth', published, backbone_config(source))
    monkeypatch.setattr(locate, '_download', lambda address: tmp_path / 'published.pth')
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(INDEX.parent / convert[1]))['main'](convert[2:])

    cfg.merge_from_dict(dict(option.split('=') for option in evaluate[5:]))
    cfg.model.backbone.update(small)
    cfg.model.neck.in_channels = 64 if 'swin' in name else 384
    model = MODELS.build(cfg.model)
    model.init_weights()
    expected = source.state_dict()
    evaluated = model.teacher.backbone.state_dict()  # which the config evaluates
    assert model.evaluate == 'teacher'
    assert all(torch.equal(tensor, expected[n]) for n, tensor in evaluated.items())


def test_index_is_where_mim_and_mmengine_look_for_it():
    linked = CONFIGS.parent / 'ibot_mm/.mim/model-index.yml'
    assert linked.read_text() == INDEX.read_text()


@pytest.mark.parametrize('folder', ['pretrain', 'cls', 'det', 'seg'])
def test_every_training_can_go_on_within_an_epoch(folder):
    loops = {path: read(path).train_cfg for path in sorted((CONFIGS / folder).glob('*.py'))}
    known = ('ibot_mm.EpochBasedTrainLoop', 'ibot_mm.IterBasedTrainLoop')
    assert (
        loops
        and {path.stem for path, cfg in loops.items() if cfg.get('type') not in known} == set()
    )
