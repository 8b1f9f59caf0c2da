# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A pre-trained network, frozen, with all that an evaluation reads of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .network_input import RGB, NetworkInput, count_channels

if TYPE_CHECKING:
    from .evaluation import Classifier

NETWORKS = ('teacher', 'student')
IMAGE_SIZE = 224  # of a classifier's view


@dataclass(frozen=True)
class FrozenNetwork:
    """A backbone in evaluation mode, and beside it what the checkpoint or its config has.

    Args:
        backbone: With ``last_blocks``.
        name: Of the architecture, such as 'vit_small_patch16'.
        neck: The projection head. Defaults to None, not there.
        prepare: Makes images (B, C, H, W), as ``source`` loads them, the network's input. Defaults
            to None, RGB normalized by ImageNet's statistics.
        source: What its images are. Defaults to RGB.
        classifier: What tasks of robustness classify by. Defaults to None, not there.
        salience: Network whose attention says what is salient. Defaults to None, this one.
        origin: Where the weights come from, for titles, such as 'epoch_32.pth (teacher)'.
            Defaults to none.
    """

    backbone: Any
    name: str
    neck: nn.Module | None = None
    prepare: Callable[[Tensor], Tensor] | None = None
    source: NetworkInput = RGB
    classifier: 'Classifier | None' = None
    salience: 'FrozenNetwork | None' = None
    origin: str = ''

    def project(self) -> Callable[[Tensor], Tensor] | None:
        """Map [CLS] tokens (B, D) to logits (B, K), if there is a projection head."""
        neck: Any = self.neck
        return None if neck is None else lambda cls: neck.logits(neck.project(cls))[0]

    def cls_attention(
        self, images: Tensor, forward: Callable[[Tensor], Any] | None = None
    ) -> Tensor:
        """Compute the attention (B, heads, h, w) of [CLS] in the last block of a ViT.

        Args:
            images: Prepared, (B, 3, H, W).
            forward: Runs the network once on the images. Defaults to None, the backbone itself.
        """
        from .visualization import cls_attention

        return cls_attention(self.backbone, images, forward)


def load_frozen_network(
    checkpoint: str | Path,
    network: str = 'teacher',
    config: str | Path | None = None,
    assume: Mapping[str, Any] | None = None,
    prefix: str | None = None,
) -> FrozenNetwork:
    """Load a network from a checkpoint alone, or as a pre-training config builds it.

    Args:
        checkpoint: Of any known format, see :class:`ibot_mm.Pretrained`. With a config, 'none'
            is the untrained network.
        network: 'teacher' or 'student', where there are both. Defaults to 'teacher'.
        config: Pre-training config whose model the checkpoint is of, for what a checkpoint alone
            does not tell. Defaults to None.
        assume: What nothing in a checkpoint tells, such as ``dict(num_heads=6)``; not with a
            config. Defaults to None.
        prefix: What the names of the wanted network have in front, in place of ``network``; not
            with a config. Defaults to None.

    Raises:
        ValueError: If ``network`` is neither of the two, there is no such network, or ``config``
            is given with ``assume`` or ``prefix``.
        CheckpointError: If the weights do not fit, or match nothing.
    """
    if network not in NETWORKS:
        raise ValueError(f'network must be one of {NETWORKS}, got {network!r}')
    for name, given in dict(assume=assume, prefix=prefix).items():
        if config is not None and given:
            raise ValueError(f'{name}={given!r} has no meaning with a config, which says it all')
    if config is not None:
        loaded = _from_config(checkpoint, network, config)
    elif str(checkpoint) == 'none':
        raise ValueError("the checkpoint 'none', an untrained network, needs --config")
    else:
        loaded = _from_checkpoint(checkpoint, network, assume, prefix)
    for module in (loaded.backbone, loaded.neck):
        if module is not None:
            module.eval()  # which returns nothing in some backbones
            module.float().requires_grad_(False)
    source = 'untrained' if str(checkpoint) == 'none' else Path(str(checkpoint)).name
    return replace(loaded, origin=f'{source} ({network})')


def _from_config(checkpoint: str | Path, network: str, path: str | Path) -> FrozenNetwork:
    from mmengine.registry import init_default_scope

    from ibot_mm.checkpoint import Checkpoint, CheckpointError, load_own
    from ibot_mm.compatibility import load_config
    from ibot_mm.engine.checkpointing import safe_loading
    from ibot_mm.registry import MODELS

    cfg = load_config(path)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model: Any = MODELS.build(cfg.model) if 'model' in cfg else None
    if getattr(model, 'backbone', None) is None and _head_of(model) is None:
        raise ValueError(f'{path} does not have a model with a backbone')
    names: Sequence[str] = ()
    if str(checkpoint) == 'none':
        with safe_loading():  # of what init_cfg names
            model.init_weights()
    else:
        opened = Checkpoint.open(checkpoint)
        names = _class_names(opened.meta)
        if load_own(model, opened) is None:
            own = model.state_dict()
            state = {n.removeprefix('state_dict.'): t for n, t in opened.tensors.items()}
            wrong = [n for n in own if n not in state or state[n].shape != own[n].shape]
            raise CheckpointError(
                f'{checkpoint} is not a checkpoint of the model of {path}: {len(wrong)} of '
                f'{len(own)} tensors are missing or of another shape, {", ".join(wrong[:4])}. '
                'Leave the config out to build the network from the checkpoint alone'
            )
    part = model.teacher if network == 'teacher' and hasattr(model, 'teacher') else model

    def prepare(images: Tensor) -> Tensor:
        return model.data_preprocessor.to(images.device)(dict(inputs=images))['inputs']

    source = NetworkInput.of(cfg, count_channels(part))
    if _head_of(model) is not None:
        return _with_classifier(model, names, prepare, source, str(cfg.model))
    neck = part.neck if hasattr(getattr(part, 'neck', None), 'logits') else None
    return FrozenNetwork(part.backbone, architecture(part.backbone), neck, prepare, source)


def _head_of(model: Any) -> Any:
    """Head of a classifier of mmpretrain, or None."""
    from mmpretrain.models import BaseClassifier

    if not isinstance(model, BaseClassifier):
        return None
    return getattr(model, 'head', None) or getattr(model, 'model', None)  # of timm, Hugging Face


def _class_names(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the classes that mmengine stores beside the weights."""
    of_data = meta.get('dataset_meta')
    found = of_data.get('classes', of_data.get('CLASSES')) if isinstance(of_data, dict) else None
    return tuple(map(str, found or ()))


def _with_classifier(
    model: Any,
    names: Sequence[str],
    prepare: Callable[[Tensor], Tensor],
    source: NetworkInput,
    config: str,
) -> FrozenNetwork:
    """Make a network of a classifier of mmpretrain, whose head classifies."""
    from .evaluation import Classifier, imagenet_classes
    from .evaluation.cache import fingerprint_weights

    model.eval()
    head = _head_of(model)
    if int(getattr(head, 'best_head', 0)) < 0:
        raise ValueError(
            'the checkpoint has a sweep of linear classifiers of which the best is not known: use '
            'one that was saved after a validation'
        )
    number = int(head.num_classes)

    def logits(images: Tensor) -> Tensor:
        return model.to(images.device)(images, mode='tensor')

    backbone = getattr(model, 'backbone', model)
    backbone = getattr(backbone, 'backbone', backbone)  # of FrozenFeatures
    is_ours = hasattr(backbone, 'last_blocks')
    return FrozenNetwork(
        backbone,
        architecture(backbone) if is_ours else type(backbone).__name__,
        prepare=prepare,
        source=source,
        classifier=Classifier(
            logits,
            imagenet_classes(number, names),
            IMAGE_SIZE,
            key=f'{fingerprint_weights(model)} {config}',
        ),
    )


def _from_checkpoint(
    checkpoint: str | Path, network: str, assume: Mapping[str, Any] | None, prefix: str | None
) -> FrozenNetwork:
    from ibot_mm.checkpoint import Checkpoint, rebuild_backbone

    opened = Checkpoint.open(checkpoint)
    backbone, report = rebuild_backbone(opened, network, prefix, assume)
    report.log()
    neck = load_projection_head(opened.tensors, report.network)
    source = NetworkInput.of(opened.training_config, count_channels(backbone))
    prepare = None if source.is_published else source.prepare
    return FrozenNetwork(backbone, architecture(backbone), neck, prepare, source)


def load_projection_head(tensors: Mapping[str, Tensor], prefix: str) -> nn.Module | None:
    """Build the projection head that a checkpoint has beside a backbone.

    Args:
        tensors: Of the checkpoint.
        prefix: What the names of the backbone have in front, such as 'teacher.backbone.'.

    Returns:
        :class:`ibot_mm.IBOTNeck` with its weights, or None if there is none.
    """
    from ibot_mm.checkpoint import published_to_ibot_mm
    from ibot_mm.registry import MODELS

    if not prefix.endswith('backbone.'):
        return None
    beside = prefix.removesuffix('backbone.')
    state = {n.removeprefix(beside): t for n, t in tensors.items() if n.startswith(beside)}
    published = {n: t for n, t in state.items() if n.startswith('head.')}
    own = {n.removeprefix('neck.'): t for n, t in state.items() if n.startswith('neck.')}
    if published and not own:
        names = published_to_ibot_mm(published, shared_head=False)
        own = {names[name].removeprefix('neck.'): t for name, t in published.items()}
    if not any(name.startswith('cls_prototypes.') for name in own):
        return None
    gain = 'cls_prototypes.parametrizations.weight.original0'
    bottleneck = gain in own
    layers = [own[f'layers.{i}.weight'] for i in range(len(own)) if f'layers.{i}.weight' in own]
    weight = gain.replace('0', '1') if bottleneck else 'cls_prototypes.weight'
    prototypes, of_patches = own[weight], own.get(weight.replace('cls_', 'patch_'))
    norm = None
    if 'norm.weight' in own:
        norm = dict(type='BN1d' if 'norm.running_mean' in own else 'LN')
    neck: nn.Module = MODELS.build(
        dict(
            type='ibot_mm.IBOTNeck',
            in_channels=(layers[0] if layers else prototypes).shape[1],
            num_prototypes=len(prototypes),
            num_patch_prototypes=None if of_patches is None else len(of_patches),
            shared_head=of_patches is None,
            shared_mlp=not any(name.startswith('patch_layers.') for name in own),
            hidden_channels=layers[0].shape[0] if layers else 1,
            bottleneck_channels=layers[-1].shape[0] if bottleneck else 0,
            num_layers=len(layers) + (not bottleneck),
            norm_cfg=norm,
        )
    )
    target = neck.state_dict()
    neck.load_state_dict({n: t.reshape(target[n].shape) for n, t in own.items()})
    return neck


def architecture(backbone: Any) -> str:
    """Name of a backbone's architecture, after those of :func:`ibot_mm.list_backbones`."""
    if hasattr(backbone, 'timm_model'):
        return str(backbone.timm_model.default_cfg.get('architecture', 'timm'))
    if hasattr(backbone, 'stages'):
        sizes = {(96, 6): 'tiny', (96, 18): 'small', (128, 18): 'base', (192, 18): 'large'}
        size = sizes.get((backbone.embed_dims, backbone.depths[2 % len(backbone.depths)]), 'other')
        window = backbone.stages[0].blocks[0].attn.w_msa.window_size[0]
        return f'swin_{size}_patch{_patch(backbone)}_window{window}'
    sizes = {(192, 12): 'tiny', (384, 12): 'small', (768, 12): 'base', (1024, 24): 'large'}
    size = sizes.get((backbone.embed_dims, backbone.num_layers), 'other')
    return f'vit_{size}_patch{_patch(backbone)}'


def _patch(backbone: Any) -> int:
    return int(backbone.patch_embed.projection.kernel_size[0])
