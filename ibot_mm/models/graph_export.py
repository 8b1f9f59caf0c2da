# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Backbones as graphs that run without this project: ``torch.export`` and ONNX."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from .backbones import MaskedVisionTransformer

AXES = {0: 'batch', 2: 'height', 3: 'width'}
PACKAGES = ('onnx', 'onnxscript')


def export_graph(backbone: Any) -> ExportedProgram:
    """Record what a ViT computes of images of any number and size.

    Args:
        backbone: :class:`ibot_mm.MaskedVisionTransformer` on the CPU; it is put in evaluation mode.

    Returns:
        A program that takes images (B, 3, H, W), of two patches or more on each side, normalized
        as in training, and gives a tuple of tokens (B, 1 + H/p * W/p, D), as the backbone does.
        ``torch.export.save`` stores it.

    Raises:
        ValueError: If it is another backbone.
        ImportError: If torch is too old.
    """
    if not hasattr(torch.compiler, 'is_exporting'):
        raise ImportError(f'Graphs for images of any size need torch 2.7, not {torch.__version__}.')
    if type(backbone) is not MaskedVisionTransformer:
        raise ValueError(
            f'{type(backbone).__name__} cannot be exported for images of any size, only '
            'MaskedVisionTransformer can: others pad to windows or strides, which are counted in '
            'Python numbers.'
        )
    rows, columns = backbone.patch_embed.projection.kernel_size
    parameter = backbone.patch_embed.projection.weight
    # Numbers of 1 would be taken for constants, equal ones for the same dimension.
    images = parameter.new_zeros(2, parameter.shape[1], 4 * rows, 3 * columns)
    least = {0: None, 2: 2 * rows, 3: 2 * columns}
    dimensions = {axis: Dim(name, min=least[axis]) for axis, name in AXES.items()}
    with torch.no_grad():
        return torch.export.export(
            backbone.eval(), (images,), dynamic_shapes=dict(images=dimensions), strict=False
        )


def export_onnx(backbone: Any, path: str | Path) -> None:
    """Write a ViT as ONNX, for images of any number and size.

    The input is ``images``, float32 (B, 3, H, W), normalized as in training; the output
    ``tokens``, (B, 1 + H/p * W/p, D), [CLS] first. Where the backbone gives several layers, the
    outputs are ``tokens_<layer>``.

    Args:
        backbone: As of :func:`export_graph`.
        path: The file.

    Raises:
        ValueError: If it is another backbone.
        ImportError: If packages of ONNX are missing, or torch is too old.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ImportError(f'ONNX needs packages: pip install {" ".join(missing)}')
    program = export_graph(backbone)
    layers = backbone.out_indices
    names = ['tokens'] if len(layers) == 1 else [f'tokens_{layer}' for layer in layers]
    graph = torch.onnx.export(
        program,
        input_names=['images'],
        output_names=names,
        dynamic_shapes=dict(images=AXES),  # here only names
        dynamo=True,
        verbose=False,
    )
    assert graph is not None  # with dynamo=True
    graph.save(path)
