# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The family of backbones that hold a model of timm, under timm's own names."""

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .architecture import Architecture, describe_network, describe_timm_model, read_parts
from .checkpoint import Checkpoint
from .convert import num_layers
from .export import MASK_TOKEN, Export, Target
from .formats import TIMM
from .locate import CheckpointError
from .parts import PATCHES
from .recognize import OF_TIMM_MODEL, SWIN, TIMM_MODEL, Network, find_networks
from .report import LoadReport, size_of, summary
from .vit import ViT, fill

_MASK_TOKENS = ('mask_token', 'masked_embed')


class TimmModel:
    """See :class:`ibot_mm.checkpoint.families.Family`."""

    name = TIMM_MODEL

    def is_for(self, backbone: nn.Module) -> bool:
        """Whether a module is such as :class:`ibot_mm.TimmVisionTransformer`."""
        return hasattr(backbone, 'timm_model')

    def compare(
        self,
        backbone: nn.Module,
        network: Network,
        checkpoint: Checkpoint,
        assume: Mapping[str, Any] | None = None,
    ) -> tuple[LoadReport, dict[str, Tensor]]:
        """Compare a backbone with a network of a checkpoint, and load nothing.

        Weights under its own names are taken as they are: those of timm, and those of a
        pre-training here. For others with timm's way of names timm's own filter of checkpoints is
        asked, which knows the code that a family comes from (DINOv2, DINOv3, BEiT, ...) and
        resizes what belongs to positions. Names of mmpretrain or transformers are brought to
        timm's by the tables.
        """
        if network.family == SWIN:
            raise CheckpointError('it holds a Swin Transformer, and the backbone is a ViT')
        model: Any = backbone.get_submodule('timm_model')
        own = model.state_dict()
        title = f'{type(backbone).__name__} ({type(model).__name__} of timm)'
        if _has_own_names(network):
            report, fits = _compare_own(network, checkpoint, model, own, title)
        else:
            report, fits = _compare_foreign(network, checkpoint, model, own, title, assume)
        if getattr(backbone, 'mask_token', None) is not None:
            report.new.append('mask_token')
        return report, {f'{OF_TIMM_MODEL}{name}': tensor for name, tensor in fits.items()}

    def options(
        self, network: Network, checkpoint: Checkpoint, assume: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The config of a backbone of this project that the network fills."""
        config = checkpoint.backbone_config
        if not config.get('model_name'):  # a plain one is known by its names
            return ViT().options(network, checkpoint, assume)
        kept = {n: v for n, v in config.items() if n not in ('init_cfg', 'pretrained')}
        mask_token = f'{network.prefix.removesuffix(OF_TIMM_MODEL)}mask_token' in checkpoint.tensors
        return kept | dict(type='ibot_mm.TimmVisionTransformer', mask_token=mask_token)

    def facts(self, network: Network, checkpoint: Checkpoint) -> dict[str, str]:
        """What the network is: title -> words."""
        name = checkpoint.backbone_config.get('model_name', 'model, which one is not told')
        patches = network.weights.state[PATCHES]
        return {
            'family': f"timm's {name}",
            'patch': f'{patches.shape[2]} x {patches.shape[3]}',
            'width': str(patches.shape[0]),
            'depth': str(num_layers(network.weights.state)),
            'heads': 'as timm has it',
            'parameters': size_of(network.own),
        }

    def config(self, backbone: nn.Module) -> dict[str, Any]:
        """The config that builds a backbone of this project."""
        raise CheckpointError('A model of timm goes to timm only: export it for timm.')

    def export(self, backbone: nn.Module, library: str) -> Export:
        """Give the weights to timm, whatever the model is."""
        if library != 'timm':
            raise CheckpointError(f'A model of timm is exported for timm, not for {library}.')
        return _export(backbone.state_dict(), '')


def export_network(network: Network, checkpoint: Checkpoint) -> Export:
    """Weights of a timm model that was trained inside :class:`ibot_mm.TimmVisionTransformer`.

    There its names only have a prefix, so any model of timm's can be exported, formats that this
    package does not know included.

    Args:
        network: The network, of the family "timm's ViT".
        checkpoint: The checkpoint.
    """
    return _export(checkpoint.tensors, network.prefix.removesuffix(OF_TIMM_MODEL))


def _export(tensors: Mapping[str, Tensor], prefix: str) -> Export:
    target = Target(
        title='the timm model of the training',
        format=TIMM,
        options={},
        usage='timm.create_model(NAME, num_classes=0, ..., checkpoint_path=FILE), as in training',
        suffixes=('.safetensors', '.pth'),
        left_out={'mask_token': MASK_TOKEN} if f'{prefix}mask_token' in tensors else {},
    )
    full = prefix + OF_TIMM_MODEL
    return Export(target, {n.removeprefix(full): t for n, t in tensors.items()
                           if n.startswith(full)})  # fmt: skip


def _has_own_names(network: Network) -> bool:
    return TIMM.anchor in network.own


def _compare_own(
    network: Network, checkpoint: Checkpoint, model: Any, own: dict[str, Tensor], title: str
) -> tuple[LoadReport, dict[str, Tensor]]:
    given = network.own
    state = dict(given)
    same = all(name in state and state[name].shape == tensor.shape for name, tensor in own.items())
    adapt = getattr(sys.modules[type(model).__module__], 'checkpoint_filter_fn', None)
    if not same and adapt is not None and 'meta' not in {t.device.type for t in own.values()}:
        try:
            state = adapt(state, model)
        except RuntimeError as error:
            raise CheckpointError(
                f'timm cannot fit it to {type(model).__name__}: {error}'
            ) from error
    fits = {n: t for n, t in state.items() if n in own and t.shape == own[n].shape}
    report = LoadReport(
        checkpoint=checkpoint.location,
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
            f'{summary(report.unexpected) or "nothing"}: give the backbone the model_name and the '
            'settings of timm (img_size, global_pool, ...) of the network that was stored.'
        )
    return report, fits


def _compare_foreign(
    network: Network,
    checkpoint: Checkpoint,
    model: Any,
    own: dict[str, Tensor],
    title: str,
    assume: Mapping[str, Any] | None,
) -> tuple[LoadReport, dict[str, Tensor]]:
    """Weights under names of mmpretrain, transformers and the like."""
    target = next(n for n in find_networks(own) if not n.prefix)
    size = model.patch_embed.img_size
    patch = model.patch_embed.patch_size
    grid = (size[0] // patch[0], size[1] // patch[1])
    values = read_parts(target.weights.state) | describe_timm_model(model)
    values['grid'] = grid if 'pos_embed' in target.weights.state else None
    theirs = describe_network(network, checkpoint, assume, grid)
    return fill(network, checkpoint, theirs, target, Architecture(values), own, title, grid)
