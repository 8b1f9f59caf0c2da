# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Filling backbones with the weights of a checkpoint, and building those that it holds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from ibot_mm.registry import MODELS

from .architecture import tell_beside
from .checkpoint import Checkpoint
from .differences import compare_told
from .export import LIBRARIES, Export
from .family import Family
from .locate import CheckpointError
from .metadata import tell
from .recognize import TIMM_MODEL, Network, find_networks, recognize
from .report import LoadReport, summary
from .specification import PATCHES
from .swin import Swin
from .timm_models import TimmModel, export_timm_model
from .vit import ViT

FAMILIES: tuple[Family, ...] = (TimmModel(), Swin(), ViT())


def family_of(backbone: nn.Module) -> Family:
    """Return the family of a backbone.

    Raises:
        CheckpointError: If it is of none.
    """
    for family in FAMILIES:
        if family.is_for(backbone):
            return family
    name = type(backbone).__name__
    inside = [
        network.prefix[:-1] for network in find_networks(backbone.state_dict()) if network.prefix
    ]
    if inside:
        places = ' or '.join(f"'{place}'" for place in inside)
        raise CheckpointError(
            f'Weights are for a backbone, and {name} only contains one: move the init_cfg into '
            f'the config of {places}.'
        )
    raise CheckpointError(
        f"{name} is neither a ViT with mmpretrain's or mmseg's parameter names, such as "
        'ibot_mm.MaskedVisionTransformer, ibot_mm.ViTPyramid or mmpretrain.VisionTransformer, nor '
        'ibot_mm.TimmVisionTransformer, nor a Swin of an mm package.'
    )


def family_named(network: Network) -> Family:
    """Return the family of a network in a checkpoint."""
    return next(family for family in FAMILIES if family.name == network.family)


def load_weights(
    backbone: nn.Module,
    checkpoint: str | Path | Checkpoint,
    network: str = 'teacher',
    prefix: str | None = None,
    strict: bool = True,
    assume: Mapping[str, Any] | None = None,
    inflate: str | Sequence[int | None] = 'repeat',
) -> LoadReport:
    """Fill a backbone with weights of any known format.

    Args:
        backbone: A ViT of this project, mmpretrain or mmseg; one that holds a model of timm, such
            as :class:`ibot_mm.TimmVisionTransformer`; or a Swin of any mm package.
        checkpoint: A location, see :meth:`Checkpoint.open`, or an open checkpoint.
        network: 'teacher' or 'student', where the file has both. Defaults to 'teacher'.
        prefix: What the names of the wanted network have in front, in place of ``network``.
            Defaults to None.
        strict: Whether weights that do not fit are an error; else they are a warning, and what
            fits is loaded. Defaults to True.
        assume: What nothing in the file tells, such as ``dict(activation='quick_gelu')``.
            Defaults to None.
        inflate: How a patch embedding gets other channels, see
            :func:`ibot_mm.checkpoint.channels.inflate_kernel`. Defaults to 'repeat', as timm does
            it with those of RGB.

    Returns:
        What was loaded and what was not.

    Raises:
        CheckpointError: If the file cannot be read, does not hold such a network, or its weights
            do not fit. The message names the causes and the options that end them.
    """
    family = family_of(backbone)
    opened = Checkpoint.open(checkpoint)
    with opened.named_in_errors():
        report = family.compare(backbone, recognize(opened, network, prefix, assume), inflate)
    if strict:
        _refuse_differences(report, 'With strict=False what fits is loaded, with a warning.')
    if not report.state:
        raise CheckpointError(f'{opened.location}: no tensor of it fits {report.backbone}.')
    backbone.load_state_dict(report.state, strict=False)
    return report


def _refuse_differences(report: LoadReport, *way_out: str) -> None:
    if report.differences:
        title = f'{report.checkpoint} ({report.format}) does not fit {report.backbone}:'
        found = (f'  - {difference}' for difference in report.differences)
        raise CheckpointError('\n'.join([title, *found, *way_out]))


def load_model(
    model: nn.Module,
    checkpoint: str | Path | Checkpoint,
    network: str = 'teacher',
    prefix: str | None = None,
    assume: Mapping[str, Any] | None = None,
    whole: bool = True,
) -> LoadReport:
    """Fill a whole model for evaluation, from its own checkpoint or any other.

    Args:
        model: Algorithm, classifier, detector or segmentor. A pre-training, one with a
            ``teacher``, is evaluated by its backbones and takes every checkpoint of one.
        checkpoint, network, prefix, assume: As of :func:`load_weights`.
        whole: Whether other models need all of their weights, rather than those of the backbone.
            Defaults to True.

    Raises:
        CheckpointError: If the file cannot be read, lacks weights of the model, or is told to be
            of another network with the same tensors.
    """
    opened = Checkpoint.open(checkpoint)
    report = None if prefix else load_own(model, opened)
    if report:
        return report
    teacher: Any = getattr(model, 'teacher', None)
    backbone = model.get_submodule('backbone')
    if teacher is None and whole:
        own = model.state_dict()
        lacking = [n for n in own if not any(name.endswith(n) for name in opened.tensors)]
        raise CheckpointError(
            f'{opened.location} does not hold all of this {type(model).__name__}: it lacks '
            f'{summary(lacking) or "tensors of its shapes"}. Give a checkpoint of its training; a '
            'backbone alone goes into init_cfg of the backbone.'
        )
    report = load_weights(backbone, opened, network, prefix, assume=assume)
    if teacher is None:
        return report
    return load_weights(teacher.backbone, opened, network, prefix, assume=assume)


def load_own(model: nn.Module, opened: Checkpoint) -> LoadReport | None:
    """Fill a model from a checkpoint of its training, which has all of its tensors.

    Returns:
        What was loaded; None if the checkpoint is not of such a model.

    Raises:
        CheckpointError: If what is stored beside the tensors, such as the heads of a ViT, is not
            so in the backbone.
    """
    own, title = model.state_dict(), type(model).__name__
    for prefix in ('state_dict.', '', 'model.', 'module.'):
        state = {n: opened.tensors.get(prefix + n) for n in own}
        fits = {n: t for n, t in state.items() if t is not None and t.shape == own[n].shape}
        if len(fits) < len(own):
            continue
        report = LoadReport(opened.location, 'the model itself', prefix, title, list(own))
        backbone = getattr(model, 'backbone', None)
        timm_model = getattr(backbone, 'timm_model', None)
        ours = tell('timm', timm_model) if timm_model else tell('module', backbone)
        compare_told(tell_beside(opened), ours, report)
        _refuse_differences(report)
        model.load_state_dict(fits)
        return report
    return None


def rebuild_backbone(
    checkpoint: str | Path | Checkpoint,
    network: str = 'teacher',
    prefix: str | None = None,
    assume: Mapping[str, Any] | None = None,
) -> tuple[Any, LoadReport]:
    """Build the backbone whose weights a checkpoint holds, and fill it.

    Args:
        checkpoint, network, prefix, assume: As of :func:`load_weights`.

    Returns:
        A backbone of this project in evaluation mode, with weights of the checkpoint's type, and
        what was loaded.

    Raises:
        CheckpointError: If the file cannot be read, does not hold such a network, or one that no
            backbone of this project is.
    """
    opened = Checkpoint.open(checkpoint)
    with opened.named_in_errors():
        source = recognize(opened, network, prefix, assume)
        backbone: Any = MODELS.build(family_named(source).options(source))
        backbone.to(source.weights.state[PATCHES].dtype).eval()
        report = family_of(backbone).compare(backbone, source)
        if wrong := [*report.differences, *report.resized]:
            raise CheckpointError(f'it is not complete or not known: {"; ".join(wrong)}')
    backbone.load_state_dict(report.state, strict=False)
    return backbone, report


def backbone_config(backbone: nn.Module) -> str:
    """Write the text of a config that builds a backbone, to be stored beside its weights.

    There :func:`load_weights` finds what weights do not show, such as the heads of a ViT.
    """
    return Config(dict(model=dict(backbone=family_of(backbone).config(backbone)))).pretty_text


def export_backbone(backbone: nn.Module, library: str) -> Export:
    """Give the weights of a backbone the names and form of a library.

    Values stay as they are, bit by bit: read back by :func:`rebuild_backbone` they are the same. A
    network of the library that is built by ``target.options`` takes them with ``strict=True`` and
    gives the same tokens.

    Args:
        backbone: :class:`ibot_mm.MaskedVisionTransformer`,
            :class:`ibot_mm.MaskedSwinTransformer` or :class:`ibot_mm.TimmVisionTransformer`.
        library: 'mmpretrain' (of Swin mmdet and mmseg too), 'timm', 'published' (the published
            iBOT) or 'huggingface' (transformers).

    Raises:
        CheckpointError: If the library is unknown or has no network with all parts of this one.
    """
    if library not in LIBRARIES:
        raise CheckpointError(f"Unknown library '{library}': choose from {', '.join(LIBRARIES)}.")
    return family_of(backbone).export(backbone, library)


def export_checkpoint(
    checkpoint: str | Path | Checkpoint,
    library: str,
    network: str = 'teacher',
    prefix: str | None = None,
    assume: Mapping[str, Any] | None = None,
) -> tuple[Export, str | None, LoadReport | None]:
    """Give the weights in a checkpoint the names and form of a library.

    Args:
        checkpoint, network, prefix, assume: As of :func:`load_weights`.
        library: As of :func:`export_backbone`.

    Returns:
        The export; the text of a config of the backbone, and what was loaded into it: None for a
        model of timm, whose names only lose their prefix.
    """
    opened = Checkpoint.open(checkpoint)
    with opened.named_in_errors():
        source = recognize(opened, network, prefix)
    if library == 'timm' and source.family == TIMM_MODEL:
        return export_timm_model(opened.tensors, source.prefix), None, None
    backbone, report = rebuild_backbone(opened, network, prefix, assume)
    return export_backbone(backbone, library), backbone_config(backbone), report
