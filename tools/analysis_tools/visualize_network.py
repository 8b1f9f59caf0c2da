# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Draw what a pre-trained network sees in images: where it looks, what its patches are like, which
patches and images it finds alike. ``KIND --help`` has the options of each figure."""

import argparse
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import torch

from ibot_mm.checkpoint import add_network_arguments, network_options
from ibot_mm.frozen_network import load_frozen_network
from ibot_mm.picture_files import find_pictures, resize_picture, sample_views
from ibot_mm.visualization import (
    attention_frames,
    draw_attention,
    draw_correspondence,
    draw_embedding,
    draw_neighbors,
    draw_patterns,
    draw_pca,
    draw_similarity,
    embed,
    find_patterns,
    pick_frames,
    read_attention,
    read_cls,
    read_frames,
    save_figure,
    score_views,
    write_video,
)
from ibot_mm.visualization.embedding import METHODS, check_method
from ibot_mm.visualization.network import figure_title
from ibot_mm.visualization.patterns import TOKENS
from ibot_mm.visualization.video import VIDEOS, frames_per_second


def load_network(args: argparse.Namespace) -> Any:
    torch.manual_seed(0)  # an untrained network is the same each time
    network = load_frozen_network(args.checkpoint, config=args.config, **network_options(args))
    network.source.check_rgb('figures')
    for part in (network.backbone, network.neck):
        if part is not None:
            part.to(args.device)
    return network


def image_size(args: argparse.Namespace) -> int | tuple[int, int]:
    if len(args.image_size) > 2:
        raise ValueError('--image-size takes the shorter side, or height and width')
    return args.image_size[0] if len(args.image_size) == 1 else tuple(args.image_size)


def draw_attention_maps(args: argparse.Namespace) -> Path:
    size = image_size(args)
    mass = args.mass or None
    if any(Path(source).suffix.lower() in VIDEOS for source in args.images):
        if len(args.images) > 1:
            raise ValueError('give one video, or images')
        rate = frames_per_second(args.images[0]) / args.every
        frames = (resize_picture(f, size) for f in read_frames(args.images[0], args.every))
        shown = attention_frames(load_network(args), frames, mass, args.layer)
        return write_video(args.out, shown, rate)
    pictures = find_pictures(args.images, size, args.num_images)
    network = load_network(args)
    found = list(read_attention(network, pictures, args.layer))
    registers = range(1, 1 + args.registers * getattr(network.backbone, 'num_registers', 0))
    if args.registers and not registers:
        raise ValueError(f'{network.name} has no registers to show')
    figure = draw_attention(
        [picture.pixels for picture, _ in found],
        [maps for _, maps in found],
        args.per_head,
        mass,
        {
            f'register {number}': [
                maps for _, maps in read_attention(network, pictures, args.layer, number)
            ]
            for number in registers
        },
        figure_title(network, '[CLS] attention', args.layer),
    )
    return save_figure(figure, args.out)


def draw_colors(args: argparse.Namespace) -> Path:
    pictures = find_pictures(args.images, image_size(args), args.num_images)
    figure = draw_pca(load_network(args), pictures, not args.all_patches, args.invert, args.layer)
    return save_figure(figure, args.out)


def draw_similar_patches(args: argparse.Namespace) -> Path:
    pictures = find_pictures(args.images, image_size(args), args.num_images)
    network = load_network(args)
    figure = draw_similarity(network, pictures, args.points, args.layer, args.grid)
    return save_figure(figure, args.out)


def draw_matches(args: argparse.Namespace) -> Path:
    size = image_size(args)
    if args.frames is not None:
        if len(args.images) != 1:
            raise ValueError('--frames are of one video')
        frames = [resize_picture(f, size) for f in pick_frames(args.images[0], args.frames)]
        figure = draw_correspondence(load_network(args), [frames], args.num_points, args.layer)
        return save_figure(figure, args.out)
    if not args.views:
        pictures = find_pictures(args.images, size)
        if len(pictures) != 2:
            raise ValueError(
                f'correspondence needs two images, got {len(pictures)}: give two, '
                '--views for two views of each, or --frames of a video'
            )
        figure = draw_correspondence(
            load_network(args), [tuple(pictures)], args.num_points, args.layer
        )
        return save_figure(figure, args.out)
    if not isinstance(size, int):
        raise ValueError('views are squares: --image-size takes one number for them')
    pictures = find_pictures(args.images, None, args.num_images)
    network = load_network(args)

    def views(number: int) -> Any:
        seeds = enumerate(pictures[:number], args.seed)
        return (sample_views(picture, size, seed) for seed, picture in seeds)

    accuracy = score_views(network, views(len(pictures)), args.radius, args.layer)
    print(
        f'{accuracy:.1%} of the matches in the overlap are right, views of {len(pictures)} images'
    )
    figure = draw_correspondence(network, views(args.num_drawn), args.num_points, args.layer)
    return save_figure(figure, args.out)


def draw_nearest_images(args: argparse.Namespace) -> Path:
    size = args.image_size[0]
    queries = find_pictures(args.images, size, args.num_images, center=True)
    gallery = find_pictures([args.gallery], size, center=True)
    figure = draw_neighbors(load_network(args), queries, gallery, args.num_neighbors, args.layer)
    return save_figure(figure, args.out)


def draw_plane(args: argparse.Namespace) -> Path:
    check_method(args.method)
    pictures = find_pictures(args.images, args.image_size[0], args.num_images, center=True)
    network = load_network(args)
    points = embed(read_cls(network, pictures, args.layer), args.method, args.seed)
    classes = [PurePath(name).parent.name for name in pictures.paths]
    return save_figure(draw_embedding(network, points, classes, args.method, args.layer), args.out)


def draw_prototypes(args: argparse.Namespace) -> Path:
    pictures = find_pictures(args.images, args.image_size[0], args.num_images, center=True)
    network = load_network(args)
    patterns = find_patterns(
        network, pictures, args.token, args.num_prototypes, args.num_members, args.context
    )
    return save_figure(draw_patterns(network, patterns, args.token), args.out)


def point(text: str) -> tuple[float, float]:
    x, y = text.split(',')
    return float(x), float(y)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest='kind', required=True, metavar='KIND')

    def add(
        kind: str, draw: Any, text: str, images: str, size: int, number: int | None
    ) -> argparse.ArgumentParser:
        figure = kinds.add_parser(kind, help=text, description=text)
        figure.set_defaults(draw=draw)
        figure.add_argument(
            'checkpoint', help="any known format; with --config 'none' is untrained"
        )
        figure.add_argument('images', nargs='+', help=images)
        figure.add_argument('--out', type=Path, help=f'default: {kind}.png')
        figure.add_argument(
            '--image-size', type=int, nargs='+', default=[size], metavar='PIXELS',
            help=f'shorter side; default: {size}',
        )  # fmt: skip
        figure.add_argument(
            '--num-images', type=int, default=number,
            help=f'at most, evenly spaced over all; default: {number or "all"}',
        )  # fmt: skip
        if kind != 'patterns':
            figure.add_argument('--layer', type=int, help='counted from 1; default: the last')
        figure.add_argument('--config', help='pre-training config, where the checkpoint needs it')
        add_network_arguments(figure)
        default = 'cuda' if torch.cuda.is_available() else 'cpu'
        figure.add_argument('--device', default=default, help='default: %(default)s')
        return figure

    files = 'files and folders; --image-size also takes height and width'
    figure = add(
        'attention', draw_attention_maps, 'where [CLS] of a ViT looks', f'{files}; or a video',
        480, 6,
    )  # fmt: skip
    figure.add_argument('--per-head', action='store_true', help='add one map for each head')
    figure.add_argument(
        '--mass', type=float, default=0.6,
        help='share of the attention whose patches are marked, 0 for none; default: %(default)s',
    )  # fmt: skip
    figure.add_argument('--registers', action='store_true', help='add one map for each register')
    figure.add_argument('--every', type=int, default=1, help='n-th frame of a video; default: 1')

    figure = add('pca', draw_colors, 'principal components of patches as colors', files, 480, 6)
    figure.add_argument('--all-patches', action='store_true', help='not only the foreground')
    figure.add_argument('--invert', action='store_true', help='the other side is foreground')

    figure = add(
        'similarity', draw_similar_patches, 'similarity of chosen patches to all', files, 480, 3
    )
    figure.add_argument(
        '--points', type=point, nargs='+', metavar='X,Y', help='pixels of the first file'
    )
    figure.add_argument(
        '--grid', type=int, default=3, help='points on a side, without --points; default: 3'
    )

    figure = add(
        'correspondence', draw_matches, 'patches of one picture found in another',
        'two images; with --views any; with --frames a video', 224, 100,
    )  # fmt: skip
    figure.add_argument(
        '--views', action='store_true', help='two random views of each image, and the accuracy'
    )
    figure.add_argument('--frames', type=int, nargs=2, metavar='N', help='two frames of a video')
    figure.add_argument('--num-points', type=int, default=12, help='lines; default: 12')
    figure.add_argument(
        '--radius', type=int, default=0, help='patches that a right match may be off; default: 0'
    )
    figure.add_argument('--num-drawn', type=int, default=4, help='pairs of views; default: 4')
    figure.add_argument('--seed', type=int, default=0, help='of views; default: 0')

    figure = add(
        'neighbors', draw_nearest_images, 'nearest images by [CLS]', 'files and folders', 224, 6
    )
    figure.add_argument('--gallery', required=True, help='folder where neighbors are looked for')
    figure.add_argument('--num-neighbors', type=int, default=8, help='default: 8')

    figure = add(
        'embedding', draw_plane, '[CLS] of many images on a plane',
        'folder; its folders are classes', 224, 1000,
    )  # fmt: skip
    figure.add_argument('--method', choices=METHODS, default='tsne', help='default: tsne')
    figure.add_argument('--seed', type=int, default=0, help='default: 0')

    figure = add(
        'patterns', draw_prototypes, 'what prototypes stand for', 'folders or files', 224, None
    )
    figure.add_argument('--token', choices=TOKENS, default='patch', help='default: patch')
    figure.add_argument('--num-prototypes', type=int, default=20, help='default: 20')
    figure.add_argument('--num-members', type=int, default=36, help='of each; default: 36')
    figure.add_argument(
        '--context', type=int, default=5, help='patches on a side around a patch; default: 5'
    )
    args = parser.parse_args(argv)
    is_video = args.kind == 'attention' and Path(args.images[0]).suffix.lower() in VIDEOS
    args.out = args.out or Path(f'{args.kind}.{"mp4" if is_video else "png"}')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        print(args.draw(args))
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f'visualize_network: {error}') from None


if __name__ == '__main__':
    main()
