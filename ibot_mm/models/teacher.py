# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The exponential moving average of the student."""

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ibot_mm.functional.shards import local_parts
from ibot_mm.private_api import lerp_


class EMATeacher(BaseModule):
    """Backbone and neck that follow the student's and are never trained.

    Args:
        backbone (nn.Module): Same parameters as the student's, the mask token apart.
        neck (nn.Module): Same parameters as the student's; may share its prototypes between
            [CLS] and patches where the student does not, or the other way round.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.neck: Any = neck
        self.requires_grad_(False)

    def init_weights(self) -> None:
        """Do nothing: weights come from :meth:`copy_from`."""

    @torch.no_grad()
    def copy_from(self, backbone: nn.Module, neck: nn.Module) -> None:
        """Start as a copy of the student: parameters and buffers.

        Where only one side shares its prototypes, the published start is kept: a sharing
        teacher starts from the student's *patch* prototypes, and a teacher with prototypes of
        each kind starts both from the student's only ones.

        Raises:
            ValueError: If a tensor of the teacher is missing in the student or differs in shape.
        """
        student = nn.ModuleDict(dict(backbone=backbone, neck=neck)).state_dict()
        own = nn.ModuleDict(dict(backbone=self.backbone, neck=self.neck)).state_dict()
        patch_mlp = 'neck.patch_layers.'
        if any(n.startswith(patch_mlp) for n in student) > any(
            n.startswith(patch_mlp) for n in own
        ):
            raise ValueError(
                "Teacher and student differ: the student's neck has an MLP for patches, the "
                "teacher's does not. Give both the same shared_mlp."
            )
        cls_prefix, patch_prefix = 'neck.cls_prototypes.', 'neck.patch_prototypes.'
        teacher_shares = not any(name.startswith(patch_prefix) for name in own)
        for name, target in own.items():
            source = name
            if teacher_shares and name.startswith(cls_prefix):
                patch_name = name.replace(cls_prefix, patch_prefix)
                source = patch_name if patch_name in student else name
            elif name not in student:
                source = name.replace(patch_prefix, cls_prefix)
            if source not in student or student[source].shape != target.shape:
                found = tuple(student[source].shape) if source in student else 'nothing'
                raise ValueError(
                    f"Teacher and student differ: '{name}' has shape {tuple(target.shape)} in the "
                    f'teacher, the student has {found}. Give both the same architecture; only '
                    'drop rates, the mask token and the sharing of prototypes may differ.'
                )
            target.copy_(student[source])

    @torch.no_grad()
    def update(
        self, backbone: nn.Module, neck: nn.Module, momentum: float, skip: Tensor | None = None
    ) -> None:
        """Set ``teacher = momentum * teacher + (1 - momentum) * student`` for common parameters.

        Buffers (running statistics of a batch norm) are the teacher's own. Where processes share
        the weights, each moves its own part: nothing is gathered.

        Args:
            backbone: The student's backbone.
            neck: The student's neck.
            momentum: Share of the teacher that is kept.
            skip: Whether to leave the teacher as it is, a bool tensor () on its device, which is
                not waited for. Defaults to None, no.
        """
        pairs = [
            pair
            for own, student in ((self.backbone, backbone), (self.neck, neck))
            for pair in self._common(own, student)
        ]
        own_parameters, student_parameters = map(list, zip(*pairs))
        weight: float | Tensor = 1 - momentum
        if skip is not None:
            (own_part,) = local_parts(own_parameters[:1])
            weight = torch.where(skip, own_part.new_zeros(()), weight)
        lerp_(own_parameters, student_parameters, weight)

    @staticmethod
    def _common(own: nn.Module, student: nn.Module) -> list[tuple[nn.Parameter, nn.Parameter]]:
        named = dict(student.named_parameters())
        return [(p, named[name]) for name, p in own.named_parameters() if name in named]
