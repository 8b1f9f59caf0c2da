# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Give a backbone, of the teacher or the student, to mmpretrain, timm, transformers or iBOT.

    python tools/model_converters/export_backbone.py epoch_400.pth ibot_vitb16 --to huggingface

The checkpoint is of a training of this project, or of any other format that it reads. timm gets
safetensors, mmpretrain (of Swin mmdet and mmseg too) and the published iBOT a .pth file,
transformers a folder with config.json, model.safetensors and a model card, README.md.
"""

import argparse
import sys
from collections.abc import Sequence

from ibot_mm.checkpoint import (
    LIBRARIES,
    Checkpoint,
    add_network_arguments,
    export_checkpoint,
    network_options,
)
from ibot_mm.report import write_export_and_card


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='file, folder, address or package::model')
    parser.add_argument('out', help='file to write, or folder for huggingface')
    parser.add_argument('--to', required=True, choices=list(LIBRARIES), help='library')
    add_network_arguments(parser)
    parser.add_argument(
        '--license', help='of the weights, for the model card, such as apache-2.0; default: unknown'
    )
    parser.add_argument(
        '--datasets',
        nargs='+',
        default=[],
        metavar='NAME',
        help="of the training's images on Hugging Face, for the model card",
    )
    parser.add_argument('--overwrite', action='store_true', help='replace what is there')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        opened = Checkpoint.open(args.checkpoint)
        export, config, report = export_checkpoint(opened, args.to, **network_options(args))
        print(report or '')
        print(
            write_export_and_card(
                args.out, opened, export, config, args.network, args.license, args.datasets,
                args.overwrite,
            )
        )  # fmt: skip
    except ValueError as error:  # CheckpointError is one
        sys.exit(f'export_backbone: {error}')


if __name__ == '__main__':
    main()
