# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Batch norm over all processes, on any device."""

from typing import cast

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

from ibot_mm.registry import MODELS


@MODELS.register_module('SyncBN')
class SyncBatchNorm(_BatchNorm):
    """Batch norm with statistics over all processes, (B, C, ...) -> (B, C, ...).

    On GPUs it runs torch's own ``SyncBatchNorm``. That one needs GPUs, and DDP refuses it on a
    CPU; this class also runs there, and in one process is an ordinary batch norm. Parameters and
    buffers have the same names as torch's.
    """

    # What torch's forward pass reads of its own class.
    process_group = None
    _check_non_zero_input_channels = nn.SyncBatchNorm._check_non_zero_input_channels

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f'SyncBN needs inputs (B, C, ...), got {tuple(input.shape)}.')

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalize over all dimensions but the second."""
        if inputs.is_cuda:
            return nn.SyncBatchNorm.forward(cast(nn.SyncBatchNorm, self), inputs)
        if not self.training or get_world_size() == 1:
            return super().forward(inputs)
        self._check_input_dim(inputs)
        values = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
        dims = [d for d in range(values.ndim) if d != 1]
        shape = [1, -1] + [1] * (values.ndim - 2)
        count = values.new_tensor([values.numel() / values.shape[1]])
        total = all_reduce(torch.cat([values.sum(dims), count]))
        mean, count = total[:-1] / total[-1], total[-1].detach()
        centered = values - mean.view(shape)
        variance = all_reduce(centered.square().sum(dims)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            unbiased = variance * count / (count - 1)
            self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
        normalized = centered * (variance + self.eps).rsqrt().view(shape)
        return (normalized * self.weight.view(shape) + self.bias.view(shape)).to(inputs.dtype)
