# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Evaluate a pre-trained network on frozen features: k-NN, linear probing, logistic regression,
clustering, k-means, few labels; and by tasks with data of their own, such as retrieval and video
segmentation.

Features are extracted once and kept; what was interrupted, and a second protocol, go on from them.
"""

import argparse
import os
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import DictAction

from ibot_mm.checkpoint import add_network_arguments
from ibot_mm.checkpoint_evaluation import show_results
from ibot_mm.engine.distributed import finish_processes, start_processes
from ibot_mm.evaluation import GROUP, PROTOCOLS, TASKS, Options
from ibot_mm.evaluation_request import Request, split_data, split_options
from ibot_mm.frozen_evaluation import evaluate_frozen
from ibot_mm.functional.pooling import POOLINGS


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    request, options = Request(''), Options()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'checkpoint', help="weights of any known format; with --config 'none' for untrained ones"
    )
    parser.add_argument(
        '--data', nargs='+', default=[], metavar='ROOT',
        help='images, train/CLASS and val/CLASS in it, or a store for each, such as train.zip; '
        'NAME=FOLDER for a single protocol or task',
    )  # fmt: skip
    parser.add_argument('--config', help='pre-training config, for its model and without --data')
    add_network_arguments(parser)
    names = [*PROTOCOLS, *TASKS, GROUP]
    parser.add_argument(
        '--protocols', nargs='+', choices=names, default=request.protocols, metavar='NAME',
        help=f'of {", ".join(names)}; default: {" ".join(request.protocols)}',
    )  # fmt: skip
    parser.add_argument('--out', default=request.out, help='default: %(default)s')
    parser.add_argument(
        '--baselines', action='store_true', help='also the network untrained, and raw pixels'
    )
    views = parser.add_argument_group('features')
    views.add_argument(
        '--image-size', type=int, default=request.image_size, help='default: %(default)s'
    )
    views.add_argument('--num-blocks', type=int, help='for linear; default: as in the paper')
    views.add_argument('--pooling', choices=POOLINGS, help='for linear; default: as in the paper')
    views.add_argument('--dtype', choices=['float32', 'float16'], default=request.dtype)
    views.add_argument('--batch-size', type=int, default=request.batch_size)
    views.add_argument('--num-workers', type=int, default=request.num_workers)
    settings = parser.add_argument_group('protocols')
    settings.add_argument('--ks', type=int, nargs='+', default=options.ks)
    settings.add_argument('--epochs', type=int, default=options.epochs, help='of linear probing')
    settings.add_argument('--shares', type=float, nargs='+', default=options.shares)
    settings.add_argument('--seed', type=int, default=options.seed)
    settings.add_argument(
        '--task-options', nargs='+', action=DictAction, default={}, metavar='TASK.OPTION=VALUE',
        help='of single tasks, such as davis.topk=10: docs/dense_evaluation.md, docs/robustness.md',
    )  # fmt: skip
    settings.add_argument(
        '--attention', metavar='CHECKPOINT',
        help='network that says what is salient, for occlusion; default: the one evaluated',
    )  # fmt: skip
    parser.add_argument('--device', help='default: cuda where there is one')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by launchers'
    )
    return parser.parse_args(argv)


def evaluate(args: argparse.Namespace) -> dict[str, Any] | None:
    """Measure what the command line asks for; None on all processes but the first."""
    args.data, args.folders = split_data(args.data)
    request = Request(**{name: getattr(args, name) for name in vars(Request(''))})
    options = Options(
        ks=tuple(args.ks),
        epochs=args.epochs,
        shares=tuple(args.shares),
        seed=args.seed,
        device=args.device or ('cuda' if torch.cuda.is_available() else 'cpu'),
        tasks=split_options(args.task_options),
    )
    return evaluate_frozen(request, options)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    start_processes(args.launcher)
    try:
        results = evaluate(args)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f'evaluate: {error}') from error
    if results is not None:
        show_results(results)
    finish_processes()


if __name__ == '__main__':
    main()
