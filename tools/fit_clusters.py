# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Fit the clusters of a pre-training config's ClusterTokenizer and write them to a file."""

import argparse
from collections.abc import Sequence

from mmengine.config import DictAction

from ibot_mm.cluster_fitting import fit_clusters
from ibot_mm.compatibility import load_config


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='pre-training config with model.tokenizer')
    parser.add_argument('--out', required=True, metavar='FILE', help='the clusters, .pth')
    parser.add_argument('--patches', type=int, default=100_000, help='default: %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='KEY=VALUE')
    args = parser.parse_args(arguments)
    cfg = load_config(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    try:
        distance = fit_clusters(cfg, args.out, args.patches, args.seed)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'fit_clusters: {error}') from error
    print(f'{args.out}: a patch is {distance:.4g} from its center, squared, on average')


if __name__ == '__main__':
    main()
