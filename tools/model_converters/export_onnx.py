# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Export a ViT as a graph for images of any number and size: ONNX, or torch.export's program.

    python tools/model_converters/export_onnx.py epoch_400.pth ibot_vitb16.onnx

The input `images` is float32 (B, 3, H, W), RGB, normalized by mean and deviation of ImageNet; the
output `tokens` is (B, 1 + H/p * W/p, D), [CLS] first.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ibot_mm.checkpoint import (
    CheckpointError,
    add_network_arguments,
    check_output,
    network_options,
    rebuild_backbone,
)
from ibot_mm.models.graph_export import export_graph, export_onnx


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='file, folder, address or package::model')
    parser.add_argument('out', type=Path, help='.onnx, or .pt2 for torch.export.load')
    add_network_arguments(parser)
    parser.add_argument('--overwrite', action='store_true', help='replace what is there')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        check_output(args.out, ('.onnx', '.pt2'), args.overwrite)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        backbone, report = rebuild_backbone(args.checkpoint, **network_options(args))
        print(report)
        if args.out.suffix == '.onnx':
            export_onnx(backbone, args.out)
        else:
            torch.export.save(export_graph(backbone), args.out)
    except (CheckpointError, ImportError, ValueError) as error:
        sys.exit(f'export_onnx: {error}')
    print(args.out)


if __name__ == '__main__':
    main()
