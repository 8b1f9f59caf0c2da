# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Extract features of a folder or a store of images by a pre-trained network."""

import argparse
from collections.abc import Sequence

import torch

from ibot_mm.checkpoint import add_network_arguments
from ibot_mm.feature_extraction import KINDS, extract


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='weights of any known format')
    parser.add_argument('folder', help='images, nested as deep as they may be, or a store of them')
    parser.add_argument(
        '--out',
        required=True,
        metavar='FILE',
        help='.npy (names in a .txt beside it), .safetensors or .parquet',
    )
    parser.add_argument('--kind', choices=KINDS, default='cls', help='default: cls')
    add_network_arguments(parser)
    parser.add_argument('--num-blocks', type=int, default=1, help='last blocks of cls; default: 1')
    parser.add_argument('--image-size', type=int, default=224, help='pixels; default: 224')
    parser.add_argument('--dtype', choices=['float32', 'float16'], default='float32')
    parser.add_argument('--batch-size', type=int, default=128, help='default: 128')
    parser.add_argument('--num-workers', type=int, default=4, help='default: 4')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--config', help='pre-training config of the checkpoint, if it is needed')
    args = parser.parse_args(argv)
    try:
        out, names = extract(**vars(args))
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f'extract_features: {error}') from error
    print(f'{out}: features of {len(names)} images')


if __name__ == '__main__':
    main()
