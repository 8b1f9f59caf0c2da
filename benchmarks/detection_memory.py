# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Peak memory of a detector's training step, with attention everywhere and in windows.

``python -m benchmarks.detection_memory`` measures three forms, each in a process of its own:
Mask R-CNN on the published pyramid (plain), on ViTDet with attention everywhere (vitdet-global)
and on ViTDet (vitdet); the last two differ in nothing but the attention. A step is forward and
backward, without optimizer. On the CPU its peak is that of resident memory, less what imports
need; on a GPU that of allocated memory. Without mmdet, backbones with their pyramids are measured.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import torch
from mmengine.config import Config, DictAction
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

ROOT = Path(__file__).parents[1]
PLAIN, EVERYWHERE, WINDOWED = FORMS = 'plain', 'vitdet-global', 'vitdet'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--arch', default='base', help='of the ViT; default: base')
    parser.add_argument('--size', type=int, default=1024, help='side of an image; default: 1024')
    parser.add_argument('--batch-size', type=int, default=1, help='default: 1')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--part',
        choices=['detector', 'backbone'],
        default='detector' if find_spec('mmdet') else 'backbone',
        help='what to measure; default: the detector, where mmdet is installed',
    )
    parser.add_argument(
        '--attention',
        choices=['fused', 'matrix'],
        default='fused',
        help='fused kernels, as mmpretrain has it, or the whole matrix of weights; default: fused',
    )
    for option, name in (('--plain', ''), ('--windowed', 'vitdet_')):
        default = ROOT / f'configs/det/mask_rcnn_{name}vitb16_1x_coco.py'
        parser.add_argument(option, metavar='CONFIG', default=str(default))
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='of both models')
    parser.add_argument('--forms', nargs='+', choices=FORMS, default=FORMS, help='default: all')
    parser.add_argument('--json', metavar='FILE', help='also write the figures here')
    parser.add_argument('--measure-here', action='store_true', help=argparse.SUPPRESS)
    return parser.parse_args()


def model_config(form: str, args: argparse.Namespace) -> dict:
    """Config of the detector, or of nothing but its backbone and pyramid."""
    from ibot_mm.models import MaskedVisionTransformer

    settings = MaskedVisionTransformer.arch_zoo[args.arch]
    channels = settings['embed_dims']
    if args.part == 'detector':
        cfg = Config.fromfile(args.plain if form == PLAIN else args.windowed)
    elif form == PLAIN:
        cfg = Config(dict(model=dict(backbone=dict(type='ibot_mm.ViTPyramid'))))
    else:
        neck = dict(type='ibot_mm.SimplePyramid', in_channels=channels)
        backbone = dict(type='ibot_mm.WindowedVisionTransformer')
        cfg = Config(dict(model=dict(backbone=backbone, neck=neck)))
    cfg.merge_from_dict(args.cfg_options or {})
    model = cfg.model
    model.backbone.update(arch=args.arch, init_cfg=None)
    if form == EVERYWHERE:
        model.backbone.global_indices = list(range(settings['num_layers']))
    if 'neck' in model:
        model.neck.in_channels = [channels] * 4 if form == PLAIN else channels
    return model


def detector_step(model_cfg: dict, args: argparse.Namespace) -> Callable[[], Tensor]:
    from mmdet.registry import MODELS
    from mmdet.testing import demo_mm_inputs
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    model = MODELS.build(model_cfg).to(args.device).train()
    shapes = [[3, args.size, args.size]] * args.batch_size
    inputs = demo_mm_inputs(
        args.batch_size, shapes, [10] * args.batch_size, num_classes=80, with_mask=True
    )
    data = model.data_preprocessor(inputs, training=True)
    return lambda: model.parse_losses(model(**data, mode='loss'))[0]


def backbone_step(model_cfg: dict, args: argparse.Namespace) -> Callable[[], Tensor]:
    from ibot_mm.registry import MODELS

    model = nn.Sequential(*map(MODELS.build, model_cfg.values())).to(args.device).train()
    images = torch.randn(args.batch_size, 3, args.size, args.size, device=args.device)
    return lambda: sum(features.mean() for features in model(images))


def measure(args: argparse.Namespace) -> float:
    """Peak of one step in MiB; on a GPU in mixed precision, as detectors are trained there."""
    torch.manual_seed(0)
    on_gpu = args.device != 'cpu'
    config = model_config(args.forms[0], args)
    build = detector_step if args.part == 'detector' else backbone_step
    if args.part == 'detector':
        import mmdet.models  # noqa: F401, imports count as baseline
    baseline = getrusage(RUSAGE_SELF).ru_maxrss
    attention = sdpa_kernel(SDPBackend.MATH) if args.attention == 'matrix' else nullcontext()
    step = build(config, args)
    with attention, torch.autocast(args.device, torch.float16, enabled=on_gpu):
        loss = step()
        loss.backward()
    if on_gpu:
        return torch.cuda.max_memory_allocated() / 2**20
    return (getrusage(RUSAGE_SELF).ru_maxrss - baseline) / 1024


def main() -> None:
    args = parse_args()
    if args.measure_here:
        print(measure(args))
        return
    # Without this, the peak of resident memory counts what was freed but not given back.
    environment = dict(os.environ, MALLOC_MMAP_THRESHOLD_=str(2**20))
    peaks = {}
    for form in args.forms:
        command = [sys.executable, '-m', 'benchmarks.detection_memory', *sys.argv[1:]]
        command += ['--measure-here', '--forms', form]
        output = subprocess.run(
            command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        peaks[form] = float(output.stdout.split()[-1])
    title = f'Peak memory, {args.part}, {args.size} x {args.size}, {args.attention} attention'
    table = Table('form', 'MiB', f'ratio to {args.forms[0]}', title=title)
    for form, peak in peaks.items():
        table.add_row(form, f'{peak:.0f}', f'{peak / peaks[args.forms[0]]:.2f}')
    Console().print(table)
    if args.json:
        versions = dict(python=platform.python_version(), torch=torch.__version__)
        result = dict(unit='MiB', peaks=peaks, settings=vars(args), versions=versions)
        Path(args.json).write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    main()
