# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Batch norm over all processes, on any device."""

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F

from ibot_mm.registry import MODELS


@MODELS.register_module('SyncBN')
class SyncBatchNorm(nn.SyncBatchNorm):
    """torch's ``SyncBatchNorm`` that also works on the CPU, in one process or several.

    torch's own needs GPUs as soon as there is a process group. On a GPU this is torch's.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise over all dimensions but the second: (B, C, ...) -> (B, C, ...)."""
        if inputs.device.type != 'cpu':
            return super().forward(inputs)
        if not self.training or get_world_size() == 1:
            if self.training:
                self.num_batches_tracked += 1
            return F.batch_norm(
                inputs,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                self.training,
                self.momentum,
                self.eps,
            )
        return self._normalise_over_processes(inputs)

    def _normalise_over_processes(self, inputs: Tensor) -> Tensor:
        dims = [d for d in range(inputs.ndim) if d != 1]
        shape = [1, -1] + [1] * (inputs.ndim - 2)
        count = inputs.new_tensor([inputs.numel() / inputs.shape[1]])
        total = all_reduce(torch.cat([inputs.sum(dims), count]))
        mean, count = total[:-1] / total[-1], total[-1].detach()
        centred = inputs - mean.view(shape)
        variance = all_reduce(centred.square().sum(dims)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        normalised = centred * (variance + self.eps).rsqrt().view(shape)
        return normalised * self.weight.view(shape) + self.bias.view(shape)
