# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Small networks of all kinds, and files of their weights."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from mmpretrain.models import BEiTViT, VisionTransformer
from torch import Tensor, nn

from ibot_mm.checkpoint import LoadReport, load_weights
from ibot_mm.models import MaskedVisionTransformer, ViTPyramid, WindowedVisionTransformer

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
CLASSES = {
    cls.__name__: cls
    for cls in (
        BEiTViT,
        MaskedVisionTransformer,
        ViTPyramid,
        VisionTransformer,
        WindowedVisionTransformer,
    )
}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def backbone() -> Callable[..., nn.Module]:
    """Build a backbone by its class's name, of 32 channels, 2 layers, 8 x 8 patches of 32 x 32."""

    def build(kind: str = 'MaskedVisionTransformer', **kwargs) -> nn.Module:
        arch = ARCH | kwargs.pop('arch', {})
        defaults = dict(img_size=32, patch_size=8, arch=arch)
        defaults |= {
            'MaskedVisionTransformer': dict(mask_token=False),
            'VisionTransformer': dict(out_type='raw'),
            'BEiTViT': dict(out_type='raw', final_norm=True),
            'ViTPyramid': dict(out_indices=[0, 1], with_pyramid=False),
            'WindowedVisionTransformer': dict(global_indices=[0, 1]),
        }[kind]
        model = CLASSES[kind](**(defaults | kwargs))
        model.eval()  # returns None in mmpretrain
        return model

    return build


@pytest.fixture
def perturb() -> Callable[[nn.Module], nn.Module]:
    """Move every parameter from its start: biases, norms and scales too."""

    def move(model: nn.Module) -> nn.Module:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        model.eval()
        return model

    return move


@pytest.fixture
def save(tmp_path: Path) -> Callable[[object], str]:
    """Save anything as a file of torch."""
    numbers = itertools.count()

    def write(content: object) -> str:
        path = tmp_path / f'checkpoint_{next(numbers)}.pth'
        torch.save(content, path)
        return str(path)

    return write


@pytest.fixture
def load(save: Callable, backbone: Callable) -> Callable[..., tuple[nn.Module, LoadReport]]:
    """Save weights and load them into a new backbone."""

    def run(content: object, kind: str = 'MaskedVisionTransformer', **kwargs):
        names = ('network', 'strict', 'prefix', 'assume')
        options = {name: kwargs.pop(name) for name in names if name in kwargs}
        model = backbone(kind, **kwargs)
        path = content if isinstance(content, (str, Path)) else save(content)
        return model, load_weights(model, path, **options)

    return run


@pytest.fixture
def assert_same() -> Callable[..., None]:
    """Compare tokens of a backbone, (B, 1 + N, D), with those of another library."""

    def check(model: nn.Module, expected: Callable[[Tensor], Tensor], size: tuple[int, int]):
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            tokens, reference = model(images)[-1], expected(images)
        assert reference.std() > 0.1
        torch.testing.assert_close(tokens, reference, atol=1e-5, rtol=1e-5)

    return check


@pytest.fixture
def prefixed() -> Callable[[str, Mapping[str, Tensor]], dict[str, Tensor]]:
    """Put a prefix before all names."""
    return lambda prefix, state: {prefix + name: tensor for name, tensor in state.items()}
