# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Convert a backbone of any known format to a plain checkpoint of this project.

    python tools/model_converters/convert_to_ibot_mm.py checkpoint_teacher.pth ibot_vitb16.pth

Known are checkpoints of this project, published iBOT (ViT and Swin) and DINO, DINOv2, DINOv3, MAE,
BEiT with learned positions, DeiT, timm, mmpretrain, transformers. The backbone that is printed
loads the file strictly, by mmengine's own init_cfg=dict(type='Pretrained', checkpoint=...) too.
"""

import argparse
import sys
from collections.abc import Sequence

from ibot_mm.checkpoint import (
    CheckpointError,
    add_network_arguments,
    backbone_config,
    network_options,
    rebuild_backbone,
    write_weights,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='file, folder, address or package::model')
    parser.add_argument('out', help='file to write, .pth or .safetensors')
    add_network_arguments(parser)
    parser.add_argument('--overwrite', action='store_true', help='replace what is there')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        backbone, report = rebuild_backbone(args.checkpoint, **network_options(args))
        config = backbone_config(backbone)
        path = write_weights(args.out, backbone.state_dict(), dict(cfg=config), args.overwrite)
    except CheckpointError as error:
        sys.exit(f'convert_to_ibot_mm: {error}')
    print(f'{report}\n{path}, for\n{config}')


if __name__ == '__main__':
    main()
