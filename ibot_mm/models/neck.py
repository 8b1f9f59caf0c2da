# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Projection MLP and prototypes."""

import torch
import torch.nn.functional as F
from mmcv.cnn import build_activation_layer, build_norm_layer
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_init
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from ibot_mm.functional.ranges import check_ranges
from ibot_mm.registry import MODELS


@MODELS.register_module()
class IBOTNeck(BaseModule):
    """Maps [CLS] and patch tokens to logits over prototypes (paper, section 3.3).

    Linear, norm, activation, ... , linear to a bottleneck, L2 normalization, then a
    weight-normalized linear layer without bias whose rows are the prototypes.

    Args:
        in_channels (int): Channels D of the tokens.
        num_prototypes (int): Prototypes K of [CLS] tokens. Defaults to 8192.
        num_patch_prototypes (int, optional): Prototypes K' of patch tokens; with ``shared_head`` it
            must be K. Defaults to None, K.
        shared_head (bool): Whether [CLS] and patch tokens share the prototypes. Defaults to True.
        shared_mlp (bool): Whether they share what is below the prototypes. False gives patches a
            second MLP of the same sizes, ``patch_layers`` and ``patch_norm``: the untied heads of
            DINOv2 (arXiv 2304.07193, section 4). It needs ``shared_head=False``. Defaults to True.
        hidden_channels (int): Channels of the hidden layers. Defaults to 2048.
        bottleneck_channels (int): Channels of the bottleneck; 0 leaves out bottleneck,
            normalization and weight norm, and prototypes are linear layers with bias.
            Defaults to 256.
        num_layers (int): Linear layers of the MLP. Defaults to 3.
        norm_cfg (dict, optional): Norm after each hidden layer, e.g. ``dict(type='BN1d')``,
            'LN' or 'ibot_mm.SyncBN'. As published, all hidden layers share *one* norm module.
            Defaults to None.
        act_cfg (dict): Activation. Defaults to GELU.
        norm_last_layer (bool): Whether the gain of each prototype stays 1 ("norm_last_layer" in the
            published code). Defaults to True.
        precise (bool): Whether all of it computes in float32 at least under autocast too, for
            trainings that overflow in fp16. Defaults to False.
        init_cfg (dict | list, optional): Initialization. Defaults to None.

    Raises:
        ValueError: If a number is out of range, shared prototypes differ in number or belong to two
            MLPs.
    """

    forward_methods = ('project', 'logits')  # of who is called by others than forward()

    def __init__(
        self,
        in_channels: int,
        num_prototypes: int = 8192,
        num_patch_prototypes: int | None = None,
        shared_head: bool = True,
        shared_mlp: bool = True,
        hidden_channels: int = 2048,
        bottleneck_channels: int = 256,
        num_layers: int = 3,
        norm_cfg: dict | None = None,
        act_cfg: dict = dict(type='GELU'),
        norm_last_layer: bool = True,
        precise: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.precise = precise
        self.num_prototypes = num_prototypes
        self.num_patch_prototypes = num_patch_prototypes or num_prototypes
        self.shared_head = shared_head
        self.shared_mlp = shared_mlp
        counts = dict(
            in_channels=in_channels,
            num_prototypes=num_prototypes,
            num_patch_prototypes=num_patch_prototypes,
            hidden_channels=hidden_channels,
        )
        check_ranges(type(self).__name__, {'int [1, inf)': counts})
        self._check(num_layers, bottleneck_channels)

        # Without a bottleneck the last of the `num_layers` is the prototypes themselves.
        widths = [in_channels] + [hidden_channels] * (num_layers - 1)
        if bottleneck_channels:
            widths.append(bottleneck_channels)
        self.num_hidden_layers = num_layers - 1

        def mlp() -> tuple[nn.ModuleList, nn.Module | None]:
            layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(widths, widths[1:]))
            if norm_cfg is None or not self.num_hidden_layers:
                return layers, None
            return layers, build_norm_layer(norm_cfg, hidden_channels)[1]

        self.layers, norm = mlp()
        self.act = build_activation_layer(act_cfg)
        self.norm = norm

        def prototypes(number: int) -> nn.Module:
            if not bottleneck_channels:
                return nn.Linear(widths[-1], number)
            layer = weight_norm(nn.Linear(bottleneck_channels, number, bias=False))
            gain = layer.parametrizations.weight.original0
            nn.init.ones_(gain).requires_grad_(not norm_last_layer)
            return layer

        self.normalize = bool(bottleneck_channels)
        self.cls_prototypes = prototypes(self.num_prototypes)
        self.patch_prototypes = None if shared_head else prototypes(self.num_patch_prototypes)
        self.patch_layers: nn.ModuleList | None = None
        self.patch_norm: nn.Module | None = None
        if not shared_mlp:
            self.patch_layers, self.patch_norm = mlp()
        self._init_linear_layers()

    def _check(self, num_layers: int, bottleneck_channels: int) -> None:
        if num_layers < 1 or bottleneck_channels < 0:
            raise ValueError(
                'IBOTNeck needs num_layers >= 1 and bottleneck_channels >= 0, got '
                f'{num_layers} and {bottleneck_channels}.'
            )
        if self.shared_head and self.num_patch_prototypes != self.num_prototypes:
            raise ValueError(
                f'Shared prototypes cannot be {self.num_prototypes} for [CLS] and '
                f'{self.num_patch_prototypes} for patches: set shared_head=False or equal numbers.'
            )
        if self.shared_head and not self.shared_mlp:
            raise ValueError(
                'IBOTNeck: shared_mlp=False gives patches an MLP of their own, so that prototypes '
                'cannot be shared: set shared_head=False.'
            )

    def _init_linear_layers(self) -> None:
        # Weight-normalized prototypes keep torch's own start, as published.
        for module in self.modules():
            if isinstance(module, nn.Linear) and not hasattr(module, 'parametrizations'):
                trunc_normal_init(module, std=0.02, bias=0)

    @property
    def norm_over_tokens(self) -> bool:
        """Whether the MLP's output for a token depends on the other tokens of the pass."""
        return isinstance(self.norm, _BatchNorm)

    def project(self, tokens: Tensor, num_cls: int | None = None) -> Tensor:
        """Apply the MLP up to the (normalized) bottleneck: (..., T, D) -> (..., T, C).

        With a batch norm, statistics are over all leading dimensions, of each MLP's own tokens.
        The normalization and the result are in float32 at least.

        Args:
            tokens: Shape (..., T, D).
            num_cls: How many of the T, the first, are [CLS]; the others are patches, which differ
                in nothing where they share the MLP. Defaults to None, all.
        """
        if num_cls is None or self.patch_layers is None:
            return self._apply_mlp(tokens, self.layers, self.norm)
        cls, patches = tokens.tensor_split([num_cls], dim=-2)
        return torch.cat(
            [
                self._apply_mlp(cls, self.layers, self.norm),
                self._apply_mlp(patches, self.patch_layers, self.patch_norm),
            ],
            dim=-2,
        )

    def _apply_mlp(self, tokens: Tensor, layers: nn.ModuleList, norm: nn.Module | None) -> Tensor:
        shape, device = tokens.shape[:-1], tokens.device.type
        x = tokens.flatten(0, -2)
        x = _to_float32(x) if self.precise else x
        autocast = torch.is_autocast_enabled(device) and not self.precise
        with torch.autocast(device, enabled=autocast):
            for index, layer in enumerate(layers):
                x = layer(x)
                if index < self.num_hidden_layers:
                    x = self.act(x if norm is None else norm(x))
        x = _to_float32(x)
        return (F.normalize(x, dim=-1) if self.normalize else x).unflatten(0, shape)

    def logits(self, cls: Tensor, *patches: Tensor) -> tuple[Tensor, ...]:
        """Compute the logits of projected tokens; shared prototypes are normalized once for all.

        Under bf16 autocast these products stay in float32: a target, at temperature 0.04, would
        be off by up to 5 % by the 8 bits of a bf16 logit.

        Args:
            cls: Projections of [CLS] tokens, shape (..., C).
            *patches: Projections of patch tokens, shape (..., C).

        Returns:
            Logits of [CLS] tokens (..., K), then of each of ``patches`` (..., K').
        """
        device = cls.device.type
        autocast = torch.is_autocast_enabled(device) and not self.precise
        enabled = autocast and torch.get_autocast_dtype(device) != torch.bfloat16
        prototypes = self.cls_prototypes if self.patch_prototypes is None else self.patch_prototypes
        with parametrize.cached(), torch.autocast(device, enabled=enabled):
            return self.cls_prototypes(cls), *(prototypes(patch) for patch in patches)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the logits of all tokens.

        Args:
            tokens: [CLS] first, shape (B, 1 + N, D); a backbone's tuple is taken by its last.

        Returns:
            [CLS] logits (B, K) and patch logits (B, N, K').
        """
        if isinstance(tokens, (tuple, list)):
            tokens = tokens[-1]
        projections = self.project(tokens, 1)
        cls, patches = self.logits(projections[:, 0], projections[:, 1:])
        return cls, patches

    def prototype_parameters(self) -> list[nn.Parameter]:
        """Return what "freezing the last layer" means: the weight-normalized prototypes.

        Without a bottleneck there is no such layer, as in the published code.
        """
        if not self.normalize:
            return []
        layers = [self.cls_prototypes, self.patch_prototypes]
        return [p for layer in layers if layer is not None for p in layer.parameters()]


def _to_float32(x: Tensor) -> Tensor:
    """Return a tensor in float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
