# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Find the faults of a config without training: exit status 1 and the list, if there are any.

    python tools/analysis_tools/check_config.py CONFIG [--cfg-options KEY=VALUE ...]

tools/train.py checks the same before its first iteration.
"""

import argparse
import sys

from mmengine.config import DictAction

from ibot_mm.compatibility import load_config
from ibot_mm.config_check import check_config, describe_faults


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--without-data',
        action='store_true',
        help='do not look for images, annotations and checkpoints, which may lie elsewhere',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='change the config'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    faults = check_config(cfg, args.cfg_options, with_data=not args.without_data)
    if faults:
        sys.exit(describe_faults(cfg, faults))
    print(f'{args.config}: no fault found')


if __name__ == '__main__':
    main()
