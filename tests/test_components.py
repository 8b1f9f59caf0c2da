# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Every registered component builds, says what it takes and gives, and stands in the docs."""

import inspect
import re
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import SequentialSampler

import ibot_mm.registry as own

ROOT = Path(__file__).parents[1]
TOOL = runpy.run_path(str(ROOT / 'tools/docs/list_components.py'))
COMPONENTS = [
    (registry, name, component)
    for registry in TOOL['registries']()
    for name, component in TOOL['components'](registry).items()
]

BACKBONE = dict(
    type='ibot_mm.MaskedVisionTransformer',
    arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
    img_size=16,
    patch_size=4,
)
PYRAMID = {key: value for key, value in BACKBONE.items() if key != 'type'} | dict(
    out_indices=[0, 1]
)
NECK = dict(type='ibot_mm.IBOTNeck', in_channels=16, num_prototypes=8, hidden_channels=8)
HEAD = dict(type='ibot_mm.IBOTHead', num_prototypes=8)
OPTIMIZER = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
WRAPPER = dict(optimizer=OPTIMIZER)
CLIPPED = WRAPPER | dict(clip_grad=dict(max_norm=1.0))
# What a component needs to be built; a new one that needs anything is added here.
ARGUMENTS = {
    'IBOT': dict(backbone=BACKBONE, neck=NECK, head=HEAD),
    'GramLoss': dict(
        backbone=BACKBONE | dict(init_cfg=dict(type='ibot_mm.Pretrained', checkpoint='x.pth'))
    ),
    'IBOTNeck': dict(in_channels=16),
    'RandomTokenizer': dict(backbone=BACKBONE, neck=NECK),
    'FrozenTokenizer': dict(
        backbone=BACKBONE | dict(init_cfg=dict(type='ibot_mm.Pretrained', checkpoint='x.pth')),
        neck=NECK | dict(init_cfg=dict(type='ibot_mm.PretrainedHead', checkpoint='x.pth')),
    ),
    'ClusterTokenizer': dict(num_tokens=4, patch_size=4, clusters='clusters.pth'),
    'MaskedVisionTransformer': PYRAMID | dict(out_indices=[1]),
    'MaskedSwinTransformer': dict(img_size=32, window_size=2),
    'TimmVisionTransformer': dict(model_name='vit_tiny_patch16_224', depth=1),
    'ViTPyramid': PYRAMID
    | dict(arch=BACKBONE['arch'] | dict(num_layers=4), out_indices=[0, 1, 2, 3]),
    'WindowedVisionTransformer': PYRAMID | dict(window_size=2, global_indices=[1], out_indices=[1]),
    'DeconvPyramid': dict(in_channels=8),
    'SimplePyramid': dict(in_channels=8),
    'SyncBN': dict(num_features=4),
    'Corrupt': dict(corruption='fog'),
    'MaskGenerator': dict(patch_size=4),
    'NormalizeChannels': dict(mean=[1.0, 2.0], std=[1.0, 1.0]),
    'ResizeShortEdge': dict(scale=8),
    'SeededBatchSampler': dict(sampler=SequentialSampler([0, 1, 2]), batch_size=2),
    'AmpOptimWrapper': WRAPPER,
    'PerParameterClipOptimWrapper': CLIPPED,
    'PerParameterClipAmpOptimWrapper': CLIPPED,
    'DecayGroupsConstructor': dict(optim_wrapper_cfg=dict(optimizer=dict(type='SGD', lr=1.0))),
    'LayerDecayConstructor': dict(
        optim_wrapper_cfg=dict(optimizer=dict(type='SGD', lr=1.0)),
        paramwise_cfg=dict(layer_decay_rate=0.5),
    ),
    'WarmupCosine': dict(optimizer=OPTIMIZER, param_name='lr', final=0.0, end=9),
    'Pretrained': dict(checkpoint='weights.pth'),
    'PretrainedHead': dict(checkpoint='weights.pth'),
    'FrozenFeatures': dict(backbone=BACKBONE),
    'LinearSweepHead': dict(num_classes=2, in_channels=4),
    'ProjectionLayers': dict(neck=NECK),
    'ReversedMixup': dict(alpha=0.8),
    'ReversedCutMix': dict(alpha=1.0),
    'RepeatedAugmentationSampler': dict(dataset=range(256), seed=0),
    'ShardSampler': dict(dataset=range(4), seed=0),
    'SweepOptimizer': dict(
        params=[nn.Parameter(torch.zeros(1, 2))],
        sweep=[dict(lr=1.0, weight_decay=0.0, lars=False)],
    ),
    'SweepConstructor': dict(optim_wrapper_cfg=dict(optimizer=dict(type='ibot_mm.SweepOptimizer'))),
    'DelayedWarmupCosine': dict(optimizer=OPTIMIZER, end=9),
    'WarmupCosineByUpdate': dict(optimizer=OPTIMIZER, param_name='lr', final=0.0, end=9),
}
# Built by the tests of their rooms, which have images or a Runner.
BUILT_ELSEWHERE = {
    'EpochBasedTrainLoop',
    'ImageFolder',
    'ImageSubset',
    'INaturalist',
    'IterBasedTrainLoop',
    'KNNSplits',
    'LMDBImages',
    'ParquetImages',
    'ShardedDataParallel',
    'TarImages',
    'ZipImages',
}
SHAPE = re.compile(r'\((?:[A-Z]\w*|\d|\.\.\.|number|side|size)[^()]*[,x][^()]*\)|HWC|\(\)')


@pytest.fixture(params=COMPONENTS, ids=lambda entry: entry[1])
def entry(request):
    return request.param


def test_it_builds_by_its_name(entry):
    registry, name, component = entry
    if inspect.isfunction(component):
        assert registry.get(name) is component
    elif name not in BUILT_ELSEWHERE:
        arguments = ARGUMENTS.get(name, {})
        assert isinstance(registry.build(dict(type=f'ibot_mm.{name}', **arguments)), component)


def test_it_has_a_docstring_with_shapes(entry):
    registry, name, component = entry
    assert inspect.getdoc(component), f'{name} does not have a docstring'
    if registry in (own.MODELS, own.TRANSFORMS):
        methods = [m for k, m in vars(component).items() if callable(m) and not k.startswith('_')]
        texts = ' '.join(inspect.getdoc(m) or '' for m in [component, *methods])
        assert SHAPE.search(texts), f'the docstrings of {name} do not give a shape'


def test_it_stands_in_the_docs(entry):
    assert f'`{entry[1]}`' in (ROOT / 'docs/components.md').read_text()


def test_the_page_of_components_is_up_to_date():
    assert TOOL['PAGE'].read_text() == TOOL['page'](), 'run python tools/docs/list_components.py'


def test_the_list_of_arguments_names_components():
    assert set(ARGUMENTS) | BUILT_ELSEWHERE <= {name for _, name, _ in COMPONENTS}
