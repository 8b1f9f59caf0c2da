# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The family of Swin Transformers: ours, mmpretrain's, mmdet's and mmseg's."""

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from .adapt import fit_patches
from .architecture import single, tell_network
from .convert import express
from .export import MASK_TOKEN, Export, Target, call
from .family import Family
from .formats.swin import swin_format
from .locate import CheckpointError
from .positions import resize_window_table
from .recognize import SWIN, Network
from .report import LoadReport, size_of
from .specification import PATCHES
from .unseen import EPS, activation_name

INDEX = 'relative_position_index'  # computed, not learned
_TABLE = 'relative_position_bias_table'


class Swin(Family):
    """Swin Transformers."""

    name = SWIN

    def is_for(self, backbone: nn.Module) -> bool:
        own = backbone.state_dict()
        return any(re.match(r'stages\.\d+\.blocks\.\d+\.attn\.w_msa\.', name) for name in own)

    def compare(
        self,
        backbone: nn.Module,
        network: Network,
        inflate: str | Sequence[int | None] = 'repeat',
    ) -> LoadReport:
        _refuse_other(network)
        own, source = backbone.state_dict(), network.weights.state
        report = LoadReport(
            checkpoint=network.checkpoint.location,
            format=network.format.title,
            network=network.prefix,
            backbone=type(backbone).__name__,
            left_out=network.left_out(),
        )
        # The index of relative positions is computed by every network.
        state = {name: tensor for name, tensor in source.items() if not name.endswith(INDEX)}
        if PATCHES in state:
            fit_patches(state, own, report, inflate)
        for name in state.keys() & own.keys():
            if name.endswith(_TABLE):
                state[name] = resize_window_table(state[name], len(own[name]))
                if state[name].shape != source[name].shape:
                    report.resized[name] = 'to other windows'
        if 'mask_token' in state and 'mask_token' not in own:
            report.left_out['a mask token'] = ['mask_token']
            del state['mask_token']
        fits = {n: t for n, t in state.items() if n in own and t.shape == own[n].shape}
        lacking = [n for n in own if n not in fits and not n.endswith(INDEX)]
        # A pre-training has one output, that of its last stage.
        report.new = [n for n in lacking if n not in state and re.match(r'norm\d+\.|mask_token', n)]
        report.missing = [n for n in lacking if n not in report.new]
        report.unexpected = [*network.weights.unknown, *(n for n in state if n not in fits)]
        report.loaded, report.state = list(fits), fits
        if report.missing or report.unexpected:
            amiss = dict(missing=report.missing, unexpected=report.unexpected)
            names = [f'{kind} {", ".join(names[:4])}' for kind, names in amiss.items() if names]
            report.differences.append(
                f'{"; ".join(names)}: give the backbone the arch of the pre-training'
            )
        self._compare_unseen(backbone, network, report)
        return report

    def _compare_unseen(self, backbone: Any, network: Network, report: LoadReport) -> None:
        eps, activation = _unseen(network)
        own = activation_name(backbone.stages[0].blocks[0].ffn.layers[0][1])
        if activation != own:
            report.differences.append(
                f'the checkpoint has {activation} in the feed-forward network, the backbone {own}: '
                "of mmdet's and mmseg's Swin set act_cfg, no other Swin has it"
            )
        if ours := {m.eps for m in backbone.modules() if isinstance(m, nn.LayerNorm)} - {eps}:
            report.notes.append(
                f'Norms of the pre-training have an eps of {eps}, those of the backbone '
                f"{sorted(ours)}: set norm_cfg=dict(type='LN', eps={eps:.0e}).".replace('e-0', 'e-')
            )

    def options(self, network: Network) -> dict[str, Any]:
        _refuse_other(network)
        eps, activation = _unseen(network)
        if activation != 'gelu':
            raise CheckpointError(
                f'its feed-forward network has {activation}, that of ibot_mm.MaskedSwinTransformer '
                'gelu'
            )
        size = tell_network(network)[0].get('img_size', (None, ''))[0]
        options = _options_of(network.weights.state, size and single(size), eps)
        return dict(type='ibot_mm.MaskedSwinTransformer', **options)

    def facts(self, network: Network) -> dict[str, str]:
        options = self.options(network)
        arch = options['arch']
        return {
            'patch': f'{options["patch_size"]} x {options["patch_size"]}',
            'width': str(arch['embed_dims']),
            'depth': str(arch['depths']),
            'heads': f'{arch["num_heads"]}, by the tables of relative positions',
            'windows': str(options['window_size']),
            'extras': 'mask token' if options['mask_token'] else 'none',
            'parameters': size_of(network.weights.state),
        }

    def config(self, backbone: nn.Module) -> dict[str, Any]:
        options = _options_of(backbone.state_dict(), _size_of(backbone), _eps_of(backbone))
        return dict(type=f'ibot_mm.{type(backbone).__name__}', **options)

    def export(self, backbone: nn.Module, library: str) -> Export:
        if library == 'huggingface':
            raise CheckpointError(
                'Swin is exported for mmpretrain (and mmdet, mmseg), timm and published, not for '
                f'{library}.'
            )
        target, state = _target(backbone, library), dict(backbone.state_dict())
        if library != 'published' and state.pop('mask_token', None) is not None:
            target.left_out['mask_token'] = MASK_TOKEN
        if library == 'timm':  # which does not store what it computes
            state = {name: tensor for name, tensor in state.items() if not name.endswith(INDEX)}
        return Export(target, express(state, target.format))


def _refuse_other(network: Network) -> None:
    if network.family != SWIN:
        raise CheckpointError(
            f"the network under '{network.prefix}' is not a Swin Transformer of ours, of the "
            'published code, of timm or of transformers: its tensors begin with '
            f'{", ".join(list(network.own)[:4])}'
        )
    if 'v2' in (network.foreign_kind or ''):
        raise CheckpointError(f'it holds {network.foreign_kind}')


def _unseen(network: Network) -> tuple[float, str]:
    """Eps of norms and activation; where nothing tells them, as in the published pre-training."""
    told, _ = tell_network(network)
    return told.get('norm_eps', (EPS, ''))[0], told.get('activation', ('gelu', ''))[0]


def _options_of(
    state: Mapping[str, Tensor], img_size: tuple[int, int] | int | None, eps: float
) -> dict[str, Any]:
    """Arguments of :class:`ibot_mm.MaskedSwinTransformer` for weights under our names.

    Weights show everything but whether windows that fill the map of their stage do so by chance.
    ``img_size`` None takes the last stage for one window, as in every published pre-training.
    """
    blocks: dict[int, int] = {}
    for name in state:
        if found := re.match(r'stages\.(\d+)\.blocks\.(\d+)\.', name):
            stage, block = int(found[1]), int(found[2])
            blocks[stage] = max(blocks.get(stage, 0), block + 1)
    names = [f'stages.{stage}.blocks.0.attn.w_msa.{_TABLE}' for stage in range(len(blocks))]
    if missing := [name for name in [PATCHES, *names] if name not in state]:
        raise CheckpointError(f'it is not complete, it lacks {", ".join(missing)}')
    tables = [state[name] for name in names]
    windows = [(math.isqrt(len(table)) + 1) // 2 for table in tables]
    patches = state[PATCHES]
    for stage, table in enumerate(tables):
        if (patches.shape[0] << stage) % table.shape[1]:
            raise CheckpointError(
                f'{patches.shape[0] << stage} channels of stage {stage} are not divisible by '
                f'{table.shape[1]} heads'
            )
    patch_size = patches.shape[2]
    return dict(
        arch=dict(
            embed_dims=patches.shape[0],
            depths=[blocks[stage] for stage in sorted(blocks)],
            num_heads=[table.shape[1] for table in tables],
        ),
        in_channels=patches.shape[1],
        img_size=img_size or windows[-1] * patch_size << (len(windows) - 1),
        patch_size=patch_size,
        window_size=max(windows),
        mask_token='mask_token' in state,
    ) | ({} if eps == EPS else dict(norm_cfg=dict(type='LN', eps=eps)))


def _eps_of(backbone: nn.Module) -> float:
    return next(m.eps for m in backbone.modules() if isinstance(m, nn.LayerNorm))


def _size_of(backbone: Any) -> tuple[int, int]:
    patch = backbone.patch_embed.projection.kernel_size
    rows, columns = backbone.patch_resolution
    return rows * patch[0], columns * patch[1]


def _target(backbone: Any, library: str) -> Target:
    size, eps = _size_of(backbone), _eps_of(backbone)
    own = _options_of(backbone.state_dict(), size, eps)
    format = swin_format(backbone.num_layers, 'mm' if library == 'mmpretrain' else library)
    remark = ''
    suffixes: tuple[str, ...] = ('.pth',)
    options: dict[str, Any]
    if library == 'mmpretrain':
        norm = dict(type='LN', eps=eps)
        stages = [
            dict(
                window_size=stage.blocks[0].attn.window_size,
                block_cfgs=dict(norm_cfg=norm),
                downsample_cfg=dict(norm_cfg=norm),
            )
            for stage in backbone.stages
        ]
        options = dict(
            arch=own['arch'],
            in_channels=own['in_channels'],
            img_size=size,
            patch_size=own['patch_size'],
            out_indices=(len(stages) - 1,),
            norm_cfg=norm,
            patch_cfg=dict(norm_cfg=norm, padding=0),
            stage_cfgs=stages,
        )
        usage = call('dict', type='mmpretrain.SwinTransformer', **options)[:-1]
        usage += ", init_cfg=dict(type='Pretrained', checkpoint=FILE))"
        title = "mmpretrain's SwinTransformer, whose names mmdet's and mmseg's have too"
        return Target(title, format, options, usage, suffixes)
    options = dict(
        img_size=size if library == 'timm' else size[0],
        patch_size=own['patch_size'],
        in_chans=own['in_channels'],
        embed_dim=own['arch']['embed_dims'],
        depths=own['arch']['depths'],
        num_heads=own['arch']['num_heads'],
        window_size=own['window_size'],
        num_classes=0,
    )
    if library == 'timm':
        name, suffixes = 'swin_tiny_patch4_window7_224', ('.safetensors', '.pth')
        options |= dict(norm_layer=partial(nn.LayerNorm, eps=eps))
        usage = call('timm.create_model', name, **options)[:-1] + ', checkpoint_path=FILE)'
        options = dict(model_name=name) | options
        remark = 'timm pads maps in another way, where windows do not divide them'
    elif eps != EPS:
        raise CheckpointError(f'{format.title} has norms with an eps of {EPS}, and these {eps}.')
    else:
        options['masked_im_modeling'] = own['mask_token']
        usage = call('models.swin_transformer.SwinTransformer', **options)
        usage += ".load_state_dict(torch.load(FILE)['state_dict'])"
    return Target(format.title, format, options, usage, suffixes, remark=remark)
