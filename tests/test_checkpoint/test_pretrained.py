# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights through ``init_cfg``, which must outlive all other initialization."""

import copy
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS, WEIGHT_INITIALIZERS, DefaultScope
from mmpretrain.models import build_classifier
from mmpretrain.utils import register_all_modules

from ibot_mm.checkpoint import CheckpointError, Pretrained, load_model, publish
from ibot_mm.models import IBOT, MaskedVisionTransformer

ARCH = dict(embed_dims=32, num_layers=4, num_heads=2, feedforward_channels=64)
OPTIONS = dict(arch=ARCH, img_size=32, patch_size=8)
HEAD = dict(type='LinearClsHead', num_classes=2, in_channels=32)


@pytest.fixture
def source(backbone, perturb):
    """Weights that no initialization would give."""
    return perturb(backbone(arch=ARCH)).state_dict()


@pytest.fixture
def init_cfg(save, source):
    return dict(type='ibot_mm.Pretrained', checkpoint=save(source))


def assert_filled(model, source, other_names=()):
    for name, tensor in model.state_dict().items():
        if name.startswith(other_names or ('-',)):
            continue
        expected = source[name]
        if tensor.shape != expected.shape:
            expected = expected[:, 1:]  # a position embedding without [CLS]
        assert torch.equal(tensor, expected), name


KINDS = {
    'MaskedVisionTransformer': dict(mask_token=True),
    'VisionTransformer': dict(out_type='avg_featmap'),
    'ViTPyramid': dict(with_pyramid=True, out_indices=[0, 1, 2, 3]),
    'WindowedVisionTransformer': dict(),
}


@pytest.mark.parametrize('as_list', [False, True])
@pytest.mark.parametrize('kind', KINDS)
def test_weights_stay(kind, as_list, source, init_cfg, backbone):
    if as_list:
        init_cfg = [dict(type='TruncNormal', layer='Linear', std=1.0), init_cfg]
    model = backbone(kind, init_cfg=init_cfg, **(dict(arch=ARCH) | KINDS[kind]))
    model.init_weights()
    new = ('mask_token', 'ln2.', 'pyramid.')
    assert_filled(model, source, new)
    model.init_weights()  # a Runner does it once more
    assert_filled(model, source, new)


def test_beit_stays(save, backbone, perturb):
    source = perturb(backbone('BEiTViT')).state_dict()
    init_cfg = dict(type='ibot_mm.Pretrained', checkpoint=save(source))
    model = backbone('BEiTViT', init_cfg=init_cfg)
    model.init_weights()
    assert_filled(model, source)


def test_what_does_not_fit_is_initialized(save, source, backbone):
    """With ``strict=False``; the rest of mm's initialization still reaches what is new."""
    init_cfg = dict(type='ibot_mm.Pretrained', checkpoint=save(source), strict=False)
    model = backbone('VisionTransformer', init_cfg=init_cfg, arch=ARCH | dict(num_layers=5))
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.init_weights()
    assert_filled(model, source, ('layers.4.',))
    new = 'layers.4.ffn.layers.0.0.weight'
    assert not torch.equal(model.state_dict()[new], start[new])


@pytest.mark.parametrize('kind', ['MaskedVisionTransformer', 'VisionTransformer'])
def test_it_must_be_last(kind, init_cfg, backbone):
    cfgs = [init_cfg, dict(type='TruncNormal', layer='Linear')]
    with pytest.raises(ValueError, match='must be the last of the init_cfg list'):
        backbone(kind, init_cfg=cfgs, arch=ARCH).init_weights()


@pytest.mark.parametrize('scope', ['mmengine', 'mmpretrain', 'mmdet', 'mmseg'])
def test_type_resolves_in_every_scope(scope):
    with DefaultScope.overwrite_default_scope(scope):
        cfg = dict(type='ibot_mm.Pretrained', checkpoint='x')
        assert isinstance(WEIGHT_INITIALIZERS.build(cfg), Pretrained)


def test_network_is_checked():
    with pytest.raises(ValueError, match="'teacher' and 'student', got 'techer'"):
        Pretrained('x', network='techer')


def test_error_reaches_the_user(init_cfg, backbone):
    model = backbone(arch=ARCH | dict(num_layers=2), init_cfg=init_cfg)
    with pytest.raises(CheckpointError, match='number of layers: 4'):
        model.init_weights()


def classifier(backbone_cfg, **kwargs):
    register_all_modules(init_default_scope=False)
    backbone_cfg = dict(OPTIONS, out_type='cls_token') | backbone_cfg
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return build_classifier(
            dict(type='ImageClassifier', backbone=backbone_cfg, head=HEAD, **kwargs)
        )


@pytest.mark.parametrize('kind', ['VisionTransformer', 'ibot_mm.MaskedVisionTransformer'])
def test_within_a_classifier(kind, source, init_cfg):
    model = classifier(dict(type=kind, init_cfg=init_cfg))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model.init_weights()
    assert_filled(model.backbone, source, ('mask_token',))


def test_on_the_wrong_module(init_cfg):
    model = classifier(dict(type='ibot_mm.MaskedVisionTransformer'), init_cfg=init_cfg)
    with pytest.raises(CheckpointError, match="only contains one: move the init_cfg .* 'backbone'"):
        model.init_weights()
    with pytest.raises(CheckpointError, match="LinearClsHead is neither a ViT with mmpretrain's"):
        Pretrained(init_cfg['checkpoint'])(model.head)


def test_student_and_teacher(source, init_cfg):
    """The teacher of a pre-training is a copy of what the student was filled with."""
    model = IBOT(
        backbone=dict(type='ibot_mm.MaskedVisionTransformer', init_cfg=init_cfg, **OPTIONS),
        neck=dict(
            type='ibot_mm.IBOTNeck',
            in_channels=32,
            num_prototypes=8,
            hidden_channels=8,
            bottleneck_channels=4,
        ),
        head=dict(type='ibot_mm.IBOTHead', num_prototypes=8),
    )
    model.init_weights()
    assert_filled(model.backbone, source, ('mask_token',))
    assert_filled(model.teacher.backbone, source)


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_downstream(scope, source, init_cfg):
    pytest.importorskip(scope)
    from importlib import import_module

    pyramid = dict(type='ibot_mm.ViTPyramid', pyramid_norm_cfg=dict(type='BN'), **OPTIONS)
    pyramid |= dict(init_cfg=init_cfg, out_indices=[0, 1, 2, 3])
    neck = dict(type='FPN', in_channels=[32] * 4, out_channels=32, num_outs=5)
    head = dict(type='RetinaHead', num_classes=2, in_channels=32, feat_channels=32)
    model = dict(type='RetinaNet', neck=neck, bbox_head=head)
    if scope == 'mmseg':
        head = dict(type='FCNHead', in_channels=32, channels=8, num_classes=2, num_convs=1)
        model = dict(type='EncoderDecoder', decode_head=head, pretrained=None)
    import_module(f'{scope}.utils').register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope(scope):
        detector = MODELS.build(dict(backbone=pyramid, **model))
        detector.init_weights()
    assert_filled(detector.backbone, source, ('pyramid.',))


RANK = """
import sys
import torch
from mmengine.dist import all_gather
torch.distributed.init_process_group('gloo')
torch.hub.get_dir = lambda: sys.argv[2]
from ibot_mm.models import MaskedVisionTransformer
arch = dict(embed_dims=32, num_layers=4, num_heads=2, feedforward_channels=64)
init_cfg = dict(type='ibot_mm.Pretrained', checkpoint=sys.argv[1])
model = MaskedVisionTransformer(arch, img_size=32, patch_size=8, init_cfg=init_cfg)
model.init_weights()
sums = all_gather(torch.stack([p.detach().sum() for p in model.parameters()]))
assert torch.equal(*sums)
print('equal', sums[0].sum().item())
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_download_once(source, save, call_together, tmp_path):
    """Both fill their copy from a file that the first has downloaded."""
    path, requests = save(source), []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            requests.append(self.path)

    (tmp_path / 'rank.py').write_text(RANK)
    with ThreadingHTTPServer(('127.0.0.1', 0), partial(Handler, directory=str(tmp_path))) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{http.server_port}/{path.rsplit("/")[-1]}'
        results = call_together(tmp_path / 'rank.py', address, tmp_path / 'hub')
        http.shutdown()
    assert all('equal' in result.stdout for result in results) and len(requests) == 1
    printed = ''.join(result.stdout + result.stderr for result in results)
    assert printed.count('names of ibot_mm') == 1


class ReadsItsOwnWay(BaseModule):
    """Takes any ``init_cfg`` for a file to be read in its own way, as mmdet's and mmseg's Swin."""

    def __init__(self, init_cfg):
        super().__init__(init_cfg)
        made = MaskedVisionTransformer(mask_token=False, **OPTIONS)
        for name, child in made.named_children():
            self.add_module(name, child)
        for name, parameter in made.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        self.patch_resolution = made.patch_resolution

    def init_weights(self):
        for parameter in self.parameters():
            torch.nn.init.zeros_(parameter)


def test_backbones_that_read_their_own_way(source, init_cfg):
    model = ReadsItsOwnWay(init_cfg)
    container = BaseModule()
    container.backbone = copy.deepcopy(model)
    container.init_weights()
    assert_filled(container.backbone, source)
    assert not torch.equal(model.cls_token, source['cls_token'])


@pytest.mark.parametrize('content', ['model', 'published', 'backbone'])
def test_whole_models(content, source, save, tmp_path):
    """A pre-training is evaluated by its backbones; other models need all of their weights."""
    neck = dict(type='ibot_mm.IBOTNeck', in_channels=32, num_prototypes=8, hidden_channels=8)
    model = IBOT(
        backbone=dict(type='ibot_mm.MaskedVisionTransformer', **OPTIONS),
        neck=neck | dict(bottleneck_channels=4),
        head=dict(type='ibot_mm.IBOTHead', num_prototypes=8),
    )
    state = {n: torch.randn_like(t) if t.is_floating_point() else t
             for n, t in model.state_dict().items()}  # fmt: skip
    path = save(source) if content == 'backbone' else save(dict(state_dict=state))
    if content == 'published':
        path, _ = publish(path, tmp_path / 'model.safetensors')
    load_model(model, path)
    if content == 'backbone':
        assert_filled(model.teacher.backbone, source)
        detector = classifier(dict(type='VisionTransformer'))
        with pytest.raises(CheckpointError, match='does not hold all of this ImageClassifier'):
            load_model(detector, path)
    else:
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, state[name]), name


def algorithm(heads=2):
    neck = dict(type='ibot_mm.IBOTNeck', in_channels=32, num_prototypes=8, hidden_channels=8)
    options = OPTIONS | dict(arch=ARCH | dict(num_heads=heads))
    return IBOT(
        backbone=dict(type='ibot_mm.MaskedVisionTransformer', **options),
        neck=neck | dict(bottleneck_channels=4),
        head=dict(type='ibot_mm.IBOTHead', num_prototypes=8),
    )


def test_a_whole_model_with_equal_tensors_and_other_heads(save):
    """As a config that differs from that of the training builds it."""
    text = f"model = dict(backbone=dict(type='ibot_mm.MaskedVisionTransformer', arch={ARCH}))"
    path = save(dict(state_dict=algorithm().state_dict(), meta=dict(cfg=text)))
    load_model(algorithm(), path)
    with pytest.raises(CheckpointError, match='attention heads: 2 in the checkpoint.*4 in the ba'):
        load_model(algorithm(heads=4), path)


def test_whole_models_take_one_of_several_networks(source, save):
    both = {f'left.{n}': t for n, t in source.items()}
    both |= {f'right.{n}': t + 1 for n, t in source.items()}
    model = algorithm()
    with pytest.raises(CheckpointError, match='several networks'):
        load_model(model, save(both))
    load_model(model, save(both), prefix='right')
    assert torch.equal(model.teacher.backbone.cls_token, both['right.cls_token'])


def test_pictures_of_a_backbone_need_no_head(source, save):
    model = classifier(dict(type='VisionTransformer'))
    load_model(model, save(source), whole=False)
    assert_filled(model.backbone, source)
