# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The family of backbones that hold a model of timm, under timm's own names."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .adapt import adapt
from .architecture import describe_backbone, describe_network, grid_of, tell_beside
from .channels import inflate_kernel
from .differences import compare_told
from .export import MASK_TOKEN, Export, Target
from .family import Family
from .formats import TIMM
from .locate import CheckpointError
from .metadata import tell
from .recognize import OF_TIMM_MODEL, SWIN, TIMM_MODEL, Network
from .report import LoadReport, size_of, summary
from .specification import PATCHES
from .vit import ViT

_MASK_TOKENS = ('mask_token', 'masked_embed')
_ADVICE = (
    'give the backbone the model_name and the settings of timm (img_size, mlp_ratio, global_pool, '
    '...) of the network that was stored'
)


class TimmModel(Family):
    """Models of timm."""

    name = TIMM_MODEL

    def is_for(self, backbone: nn.Module) -> bool:
        return hasattr(backbone, 'timm_model')

    def compare(
        self,
        backbone: nn.Module,
        network: Network,
        inflate: str | Sequence[int | None] = 'repeat',
    ) -> LoadReport:
        """Take weights under timm's names as they are, or as timm's own filter adapts them.

        That filter knows the code that a family comes from (DINOv2, DINOv3, BEiT, ...) and resizes
        what belongs to positions. Names of mmpretrain or transformers are brought to timm's by the
        tables.
        """
        if network.family == SWIN:
            raise CheckpointError('it holds a Swin Transformer, and the backbone is a ViT')
        model: Any = backbone.get_submodule('timm_model')
        title = f'{type(backbone).__name__} ({type(model).__name__} of timm)'
        if TIMM.anchor in network.own:
            report = _compare_own(network, model, title, inflate)
        else:
            grid = grid_of(model)
            theirs, ours = describe_network(network, grid), describe_backbone(model)
            own = model.state_dict()
            report = adapt(network, theirs, own, ours, title, grid, _ADVICE, inflate)
        if getattr(backbone, 'mask_token', None) is not None:
            report.new.append('mask_token')
        report.state = {f'{OF_TIMM_MODEL}{name}': t for name, t in report.state.items()}
        return report

    def options(self, network: Network) -> dict[str, Any]:
        config = network.checkpoint.backbone_config
        if not config.get('model_name'):  # a plain one is known by its names
            return ViT().options(network)
        kept = {n: v for n, v in config.items() if n not in ('init_cfg', 'pretrained')}
        name = f'{network.prefix.removesuffix(OF_TIMM_MODEL)}mask_token'
        mask_token = name in network.checkpoint.tensors
        return kept | dict(type='ibot_mm.TimmVisionTransformer', mask_token=mask_token)

    def facts(self, network: Network) -> dict[str, str]:
        config = network.checkpoint.backbone_config
        patches = network.weights.state[PATCHES]
        return {
            'family': f"timm's {config.get('model_name', 'model, which one is not told')}",
            'patch': f'{patches.shape[2]} x {patches.shape[3]}',
            'width': str(patches.shape[0]),
            'depth': str(network.num_layers),
            'heads': 'as timm has it',
            'parameters': size_of(network.own),
        }

    def config(self, backbone: nn.Module) -> dict[str, Any]:
        raise CheckpointError('A model of timm goes to timm only: export it for timm.')

    def export(self, backbone: nn.Module, library: str) -> Export:
        if library != 'timm':
            raise CheckpointError(f'A model of timm is exported for timm, not for {library}.')
        return export_timm_model(backbone.state_dict(), OF_TIMM_MODEL)


def export_timm_model(tensors: Mapping[str, Tensor], prefix: str) -> Export:
    """Return the weights of a timm model trained in :class:`ibot_mm.TimmVisionTransformer`.

    There its names only have a prefix, so any model of timm's can be exported.
    """
    target = Target(
        title='the timm model of the training',
        format=TIMM,
        options={},
        usage='timm.create_model(NAME, num_classes=0, ..., checkpoint_path=FILE), as in training',
        suffixes=('.safetensors', '.pth'),
    )
    if f'{prefix.removesuffix(OF_TIMM_MODEL)}mask_token' in tensors:
        target.left_out['mask_token'] = MASK_TOKEN
    own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    return Export(target, own)


def _compare_own(
    network: Network, model: Any, title: str, inflate: str | Sequence[int | None]
) -> LoadReport:
    given, own = network.own, model.state_dict()
    state = dict(given)
    channels = own[TIMM.anchor].shape[1]
    state[TIMM.anchor], inflated = inflate_kernel(given[TIMM.anchor], channels, inflate)
    same = all(name in state and state[name].shape == tensor.shape for name, tensor in own.items())
    adapt_by_timm = getattr(sys.modules[type(model).__module__], 'checkpoint_filter_fn', None)
    if not same and adapt_by_timm and 'meta' not in {t.device.type for t in own.values()}:
        try:
            state = adapt_by_timm(state, model)
        except Exception as error:  # of tensors that timm does not expect
            raise CheckpointError(
                f'timm cannot fit it to {type(model).__name__}: {type(error).__name__} {error}'
            ) from error
    fits = {
        n: t
        for n, t in state.items()
        if n in own
        and t.shape == own[n].shape
        and t.is_floating_point() == own[n].is_floating_point()
    }
    report = LoadReport(
        checkpoint=network.checkpoint.location,
        format=network.format.title,
        network=network.prefix,
        backbone=title,
        loaded=list(fits),
        resized={
            name: f'to {tuple(tensor.shape)}'
            for name, tensor in fits.items()
            if name in given and given[name].shape != tensor.shape
        },
        missing=[name for name in own if name not in fits],
        state=fits,
    )
    if inflated and TIMM.anchor in fits:
        report.resized[TIMM.anchor] = ', '.join(
            [inflated, *filter(None, [report.resized.get(TIMM.anchor)])]
        )
    for name in (name for name in state if name not in fits):
        kind = 'mask token' if name in _MASK_TOKENS else network.format.why_left_out(name)
        if kind and name not in own:
            report.left_out.setdefault(kind, []).append(name)
        else:
            report.unexpected.append(name)
    if report.missing or report.unexpected:
        report.differences.append(
            f'It lacks {summary(report.missing) or "nothing"} and has no place for '
            f'{summary(report.unexpected) or "nothing"}: {_ADVICE}.'
        )
    told = tell_beside(network.checkpoint, network.assume)
    compare_told(told, tell('timm', model), report)
    return report
