# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Mixed precision that also runs on the CPU and on Apple's MPS."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper as MMEngineAmpOptimWrapper
from mmengine.optim import OptimWrapper
from torch import nn

from ibot_mm.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(MMEngineAmpOptimWrapper):
    """mmengine's ``AmpOptimWrapper`` that also runs where there is no GPU.

    The base class refuses the CPU and Apple's MPS. Here the CPU uses bf16 as asked, and fp16 on
    both and bf16 on MPS become float32, with a line in the log, so that a recipe can be tried
    anywhere.

    Args:
        loss_scale (str | float | dict): As in the base class. Defaults to 'dynamic'.
        dtype (str | torch.dtype, optional): Type of the mixed-precision operations. Defaults to
            None, float16.
        **kwargs: As :class:`mmengine.optim.AmpOptimWrapper`.

    Raises:
        ValueError: If ``dtype`` is not the name of a type.
    """

    def __init__(
        self,
        *args: Any,
        loss_scale: str | float | dict = 'dynamic',
        dtype: str | torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(dtype, str) and dtype not in self.valid_dtypes:
            raise ValueError(
                f"Unknown dtype '{dtype}' of AmpOptimWrapper: write 'float16' or 'bfloat16'."
            )
        device = get_device()
        self._has_scaler = device not in ('cpu', 'mps')
        if self._has_scaler:
            super().__init__(*args, loss_scale=loss_scale, dtype=dtype, **kwargs)
            return
        OptimWrapper.__init__(self, *args, **kwargs)
        self._scale_update_param = None
        self.loss_scaler = torch.amp.GradScaler('cpu', enabled=False)  # bf16 needs no scaling
        self.cast_dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        self._in_float32 = device == 'mps' or self.cast_dtype in (None, torch.float16)
        if self._in_float32:
            what, where = ('fp16', 'the CPU') if device == 'cpu' else ('Mixed precision', 'MPS')
            print_log(f'{what} needs a GPU: training in float32 on {where}.', 'current')

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Cast automatically, except where float32 stands in for it."""
        if not self._has_scaler and self._in_float32:
            with OptimWrapper.optim_context(self, model):
                yield
        else:
            with super().optim_context(model):
                yield
