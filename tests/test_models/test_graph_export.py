# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Graphs give the backbone's tokens for images of any number and size."""

import onnxruntime
import pytest
import torch

from ibot_mm.models import MaskedSwinTransformer, MaskedVisionTransformer, ViTPyramid
from ibot_mm.models.graph_export import export_graph, export_onnx

pytestmark = pytest.mark.slow

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=96)
FEATURES = {
    'plain': dict(),
    # Each of them adds to the graph at another place.
    'rotary, registers, scale, SwiGLU, several layers': dict(
        rotary=True,
        num_registers=2,
        layer_scale_init_value=0.1,
        layer_cfgs=dict(ffn_type='swiglu_fused'),
        out_indices=[0, 1],
    ),
    'patches only, drop path': dict(
        with_cls_token=False, out_type='featmap', drop_path_rate=0.5, mask_token=True
    ),
    'six channels': dict(in_channels=6, arch=dict(ARCH, num_layers=1)),
}
# The first is that of the position embedding; the last is cut to a multiple of the patch.
SIZES = [(32, 32), (32, 40), (16, 16), (24, 48), (64, 16), (48, 48), (129, 70)]


def build(**options):
    torch.manual_seed(0)
    model = MaskedVisionTransformer(
        **(dict(arch=ARCH, img_size=32, patch_size=8, mask_token=False) | options)
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval().requires_grad_(False)


def compare(model, run, tolerance):
    for size in SIZES:
        for number in (1, 3):
            images = torch.randn(number, model.patch_embed.projection.in_channels, *size)
            outputs, expected = run(images), model(images)
            assert len(outputs) == len(expected)
            for output, tokens in zip(outputs, expected):
                assert tokens.std() > 0.1
                torch.testing.assert_close(output, tokens, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    'name', [n if n == 'plain' else pytest.param(n, marks=pytest.mark.long) for n in FEATURES]
)
def test_program(name, tmp_path):
    model = build(**FEATURES[name])
    torch.export.save(export_graph(model), tmp_path / 'vit.pt2')
    compare(model, torch.export.load(tmp_path / 'vit.pt2').module(), 1e-5)


@pytest.mark.long
@pytest.mark.parametrize('name', FEATURES)
def test_onnx(name, tmp_path):
    model = build(**FEATURES[name])
    export_onnx(model, tmp_path / 'vit.onnx')
    session = onnxruntime.InferenceSession(tmp_path / 'vit.onnx')
    (images,) = session.get_inputs()
    channels = model.patch_embed.projection.in_channels
    assert (images.name, images.shape) == ('images', ['batch', channels, 'height', 'width'])
    names = [output.name for output in session.get_outputs()]
    assert names == (['tokens_0', 'tokens_1'] if 'several' in name else ['tokens'])

    def run(images):
        return [torch.from_numpy(x) for x in session.run(None, dict(images=images.numpy()))]

    compare(model, run, 1e-4)


@pytest.mark.long
def test_published_size(tmp_path):
    """ViT-S/16 at 224, at local crops of 96, and at a size of detection."""
    torch.manual_seed(0)
    model = MaskedVisionTransformer(arch='small', mask_token=False)
    model.init_weights()
    torch.nn.init.trunc_normal_(model.pos_embed, std=0.02)
    export_onnx(model, tmp_path / 'vit.onnx')
    session = onnxruntime.InferenceSession(tmp_path / 'vit.onnx')
    for size in ((224, 224), (96, 96), (320, 480)):
        images = torch.randn(1, 3, *size)
        (tokens,) = session.run(None, dict(images=images.numpy()))
        with torch.no_grad():
            expected = model(images)[-1]
        torch.testing.assert_close(torch.from_numpy(tokens), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    'other',
    [
        lambda: ViTPyramid(arch=ARCH, img_size=32, out_indices=[0, 1], with_pyramid=False),
        lambda: MaskedSwinTransformer(
            arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 1]), img_size=32
        ),
    ],
)
def test_other_backbones_are_refused(other):
    with pytest.raises(ValueError, match='cannot be exported for images of any size'):
        export_graph(other())


def test_missing_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr('ibot_mm.models.graph_export.find_spec', lambda name: None)
    with pytest.raises(ImportError, match='pip install onnx onnxscript'):
        export_onnx(build(), tmp_path / 'vit.onnx')
