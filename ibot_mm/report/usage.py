# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Lines that load the weights of a pre-training elsewhere."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from mmengine.config import Config

from ibot_mm.checkpoint import (
    Checkpoint,
    CheckpointError,
    backbone_config,
    export_checkpoint,
    rebuild_backbone,
)
from ibot_mm.functional.image_statistics import MEAN, STD

from .origin import model_of

SUFFIXES = dict(timm='.safetensors', huggingface='')
TITLES = dict(timm='timm', huggingface='Hugging Face')
MODULES = dict(timm='timm', huggingface='transformers')
TOKENS = dict(timm='model.forward_features(images)', huggingface='model(images).last_hidden_state')


@dataclass(frozen=True)
class Usage:
    """How weights are used.

    Args:
        shell: Commands.
        lines: Title -> lines of Python, to be run one after another behind the commands.
        refused: Title -> why there are none.
    """

    shell: str
    lines: dict[str, str]
    refused: dict[str, str]


def usage_of(checkpoint: Checkpoint) -> Usage:
    """Write commands and lines for the teacher of a pre-training.

    Args:
        checkpoint: Of a pre-training of this project.

    Raises:
        CheckpointError: If there is no backbone in it.
    """
    path = Path(checkpoint.location)
    name = path.parent.resolve().name
    shell = [f'ibot-mm embed {shlex.quote(str(path))} my/images --out features.npy']
    lines = {'Images for what follows': _images(checkpoint)}
    refused = {}
    for library, suffix in SUFFIXES.items():
        try:
            export, _, _ = export_checkpoint(checkpoint, library)
        except CheckpointError as error:
            refused[TITLES[library]] = str(error)
            continue
        out = f'{name}_{library}{suffix}'
        words = ['ibot-mm', 'export', str(path), out, '--to', library]
        shell.append(shlex.join(words))
        lines[TITLES[library]] = dedent(f"""\
            import {MODULES[library]}

            model = {export.target.usage.replace('FILE', repr(out))}.eval()
            tokens = {TOKENS[library]}""")
    lines['OpenMMLab: the backbone of a config, and built at once'] = _backbone(checkpoint)
    return Usage('\n'.join(shell), lines, refused)


def _images(checkpoint: Checkpoint) -> str:
    told = model_of(checkpoint).get('data_preprocessor') or {}
    mean, std = (tuple(told.get(key) or of) for key, of in (('mean', MEAN), ('std', STD)))
    size = checkpoint.backbone_config.get('img_size', 224)
    height, width = (size, size) if isinstance(size, int) else size
    channels = checkpoint.backbone_config.get('in_channels', 3)
    return dedent(f"""\
        import torch

        # In place of yours: RGB of 0 to 255, minus {mean}, divided by {std}
        images = torch.randn(1, {channels}, {height}, {width})""")


def _backbone(checkpoint: Checkpoint) -> str:
    try:
        config = backbone_config(rebuild_backbone(checkpoint)[0])
    except CheckpointError:  # a model of timm that no backbone of ours is
        config = Config(dict(model=dict(backbone=checkpoint.backbone_config))).pretty_text
    init = f"dict(type='ibot_mm.Pretrained', checkpoint={checkpoint.location!r})"
    return f"""{config.strip()}
model['backbone']['init_cfg'] = {init}

from ibot_mm.registry import MODELS

backbone = MODELS.build(model['backbone'])
backbone.init_weights()
tokens = backbone(images)[-1]"""
