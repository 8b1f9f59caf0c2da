# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Train a downstream config from pre-trained and from random weights, same seed and budget."""

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import DictAction
from mmengine.fileio import dump
from mmengine.runner import Runner

from ibot_mm.compatibility import load_config
from ibot_mm.engine.checkpointing import force_safe_loading


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='of what starts from a pre-trained backbone')
    parser.add_argument('--checkpoint', help="pre-trained weights (default: the config's own)")
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/<config>')
    parser.add_argument('--out', type=Path, help='JSON of both metrics; default: in the work dir')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='config overrides')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    force_safe_loading()
    cfg = load_config(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    cfg.setdefault('randomness', dict(seed=0))
    backbone = cfg.model.backbone
    if not backbone.get('init_cfg'):
        raise SystemExit(f'{args.config}: model.backbone has no init_cfg, so nothing to compare.')
    if args.checkpoint:
        backbone.init_cfg.checkpoint = args.checkpoint
    work_dir = args.work_dir or Path('work_dirs') / Path(args.config).stem

    metrics = {}
    for name, init_cfg in (('pretrained', backbone.init_cfg), ('scratch', None)):
        run = copy.deepcopy(cfg)
        run.model.backbone.init_cfg = init_cfg
        run.work_dir = str(work_dir / name)
        run.experiment_name = f'{Path(args.config).stem}-{name}'
        checkpoint = run.get('default_hooks', {}).get('checkpoint') or {}
        if checkpoint.get('type') == 'ibot_mm.CheckpointHook':
            checkpoint.start_again = True
        runner = Runner.from_cfg(run)
        runner.train()
        metrics[name] = runner.test()
    dump(metrics, args.out or work_dir / 'metrics.json')


if __name__ == '__main__':
    main()
