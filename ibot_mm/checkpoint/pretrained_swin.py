# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights of a pre-trained Swin through ``init_cfg``."""

import re
from collections.abc import Mapping

from mmengine.model import BaseModule, update_init_info
from torch import Tensor, nn

from ibot_mm.registry import WEIGHT_INITIALIZERS

from .errors import CheckpointError
from .files import load_checkpoint_file
from .report import LoadReport
from .swin_names import INDEX, find_prefix, swin_state_dict


@WEIGHT_INITIALIZERS.register_module()
class PretrainedSwin:
    """Fills the Swin backbone of a detector, segmentor or classifier with pre-trained weights.

    It belongs to the model, not to its backbone, since mmdet's and mmseg's Swin take any
    ``init_cfg`` of theirs for a file to be read their own way. For example
    ``model=dict(..., init_cfg=dict(type='ibot_mm.PretrainedSwin',
    checkpoint='work_dirs/ibot_swint_w7/epoch_300.pth'))``. One table in the log says what was
    loaded and what was not.

    Args:
        checkpoint (str): Of a pre-training, ours or the published code's; see
            :func:`ibot_mm.checkpoint.load_checkpoint_file`.
        network (str): 'teacher' or 'student', where the file has both. Defaults to 'teacher'.
        strict (bool): Whether weights that do not fit are an error; else they are a warning, and
            what fits is loaded. Defaults to True.

    Raises:
        ValueError: If ``network`` is neither of the two.
    """

    def __init__(self, checkpoint: str, network: str = 'teacher', strict: bool = True) -> None:
        if network not in ('teacher', 'student'):
            raise ValueError(f"network must be 'teacher' or 'student', got {network!r}.")
        self.checkpoint = checkpoint
        self.network = network
        self.strict = strict

    def __call__(self, module: nn.Module) -> None:
        """Fill the backbone, as mmengine's ``initialize`` does it."""
        backbone = getattr(module, 'backbone', module)
        tensors = load_checkpoint_file(self.checkpoint)
        try:
            report, state = compare_swin(backbone, tensors, self.checkpoint, self.network)
        except CheckpointError as error:
            raise CheckpointError(f'{self.checkpoint} cannot be used: {error}.') from error
        if not state or (report.differences and self.strict):
            raise CheckpointError(
                f'{report}\nWith strict=False what fits, if anything, is loaded with a warning.'
            )
        backbone.load_state_dict(state, strict=False)
        for part in backbone.modules():
            if isinstance(part, BaseModule):
                part.is_init = True  # else init_weights would draw them anew
        report.log()
        if hasattr(backbone, '_params_init_info'):
            update_init_info(backbone, init_info=f'PretrainedSwin: loaded from {self.checkpoint}')


def compare_swin(
    backbone: nn.Module, tensors: Mapping[str, Tensor], checkpoint: str, network: str = 'teacher'
) -> tuple[LoadReport, dict[str, Tensor]]:
    """Compare a Swin with one in a checkpoint, and load nothing.

    Args:
        backbone: mmdet's, mmseg's, mmpretrain's or ours.
        tensors: Of the checkpoint, as from :func:`load_checkpoint_file`.
        checkpoint: Where they came from, for messages.
        network: 'teacher' or 'student'. Defaults to 'teacher'.

    Returns:
        What would be loaded and what not, and the weights for the backbone.

    Raises:
        CheckpointError: If the checkpoint holds no Swin, or not the one wanted.
    """
    own = backbone.state_dict()
    source = swin_state_dict(tensors, network)
    state = swin_state_dict(tensors, network, like=own)
    fits = {n: t for n, t in state.items() if n in own and t.shape == own[n].shape}
    lacking = [n for n in own if n not in fits and not n.endswith(INDEX)]
    # A pre-training has one output, that of its last stage.
    new = [n for n in lacking if n not in state and re.match(r'norm\d+\.|mask_token', n)]
    report = LoadReport(
        checkpoint=checkpoint,
        format='Swin',
        network=find_prefix(tensors, network),
        backbone=type(backbone).__name__,
        loaded=list(fits),
        resized={n: 'to other windows' for n in fits if fits[n].shape != source[n].shape},
        new=new,
        missing=[n for n in lacking if n not in new],
        unexpected=[n for n in state if n not in fits],
    )
    if report.missing or report.unexpected:
        report.differences.append('Give the backbone the arch of the pre-training.')
    eps = {m.eps for m in backbone.modules() if isinstance(m, nn.LayerNorm)}
    if eps - {1e-6}:
        report.notes.append(
            f'Norms of the pre-training have an eps of 1e-06, those of the backbone '
            f"{sorted(eps)}: set norm_cfg=dict(type='LN', eps=1e-6)."
        )
    return report, fits
