# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Give a backbone, of the teacher or the student, to mmpretrain, timm, transformers or iBOT.

    python tools/model_converters/export_backbone.py epoch_400.pth ibot_vitb16 --to huggingface

The checkpoint is of a training of this project, or of any other format that it reads. timm gets
safetensors, mmpretrain (of Swin mmdet and mmseg too) and the published iBOT a .pth file,
transformers a folder with config.json and model.safetensors.
"""

import argparse
import sys
from collections.abc import Sequence

from ibot_mm.checkpoint import (
    LIBRARIES,
    CheckpointError,
    add_network_arguments,
    export_checkpoint,
    network_options,
    write_export,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='file, folder, address or package::model')
    parser.add_argument('out', help='file to write, or folder for huggingface')
    parser.add_argument('--to', required=True, choices=list(LIBRARIES), help='library')
    add_network_arguments(parser)
    parser.add_argument('--overwrite', action='store_true', help='replace what is there')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        export, config, report = export_checkpoint(
            args.checkpoint, args.to, **network_options(args)
        )
        print(report or '')
        print(write_export(args.out, export, config, args.overwrite))
    except CheckpointError as error:
        sys.exit(f'export_backbone: {error}')


if __name__ == '__main__':
    main()
