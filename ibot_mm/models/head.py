# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The iBOT losses with their centers."""

import torch
from mmengine.dist import all_reduce
from mmengine.model import BaseModule
from torch import Tensor

from ibot_mm.functional.losses import cls_loss, patch_loss, teacher_targets
from ibot_mm.functional.ranges import check_ranges
from ibot_mm.functional.sinkhorn import Reduce, sinkhorn_center
from ibot_mm.registry import MODELS

CENTERINGS = ('mean', 'sinkhorn', 'none')


@MODELS.register_module()
class IBOTHead(BaseModule):
    """[CLS] self-distillation and masked patch prediction (paper, section 3).

    Knows logits only. Teacher temperatures are plain numbers that a schedule sets.

    Args:
        num_prototypes (int): Prototypes K of [CLS] tokens. Defaults to 8192.
        num_patch_prototypes (int, optional): Prototypes K' of patch tokens. Defaults to None, K.
        student_temperature (float): Defaults to 0.1.
        teacher_temperature (float): Of [CLS] targets, until set. Defaults to 0.04.
        teacher_patch_temperature (float): Of patch targets, until set. Defaults to 0.04.
        center_momentum (float): Share of the old center that is kept in each step.
            Defaults to 0.9.
        patch_center_momentum (float): The same of the patch center. Defaults to 0.9.
        cls_weight (float): Weight of the [CLS] loss, lambda 1. Defaults to 1.
        patch_weight (float): Weight of the patch loss, lambda 2. Defaults to 1.
        visible_weight (float): Weight of the patch loss over visible patches, relative to that
            over masked ones: iBOT++. It needs all tokens of the student, where the fast path
            computes the masked ones only. Defaults to 0.
        centering (str): What centers the [CLS] targets: 'mean', the moving mean of the teacher's
            logits as published; 'sinkhorn', three iterations of Sinkhorn-Knopp over the batch of
            all processes; 'none'. Defaults to 'mean'.
        patch_centering (str): The same of the patch targets; Sinkhorn-Knopp is over those
            that the loss reads. Defaults to 'mean'.
        init_cfg (dict | list, optional): Initialization. Defaults to None.

    Raises:
        ValueError: If a number is out of range or ``centering`` unknown.
    """

    def __init__(
        self,
        num_prototypes: int = 8192,
        num_patch_prototypes: int | None = None,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        teacher_patch_temperature: float = 0.04,
        center_momentum: float = 0.9,
        patch_center_momentum: float = 0.9,
        cls_weight: float = 1.0,
        patch_weight: float = 1.0,
        visible_weight: float = 0.0,
        centering: str = 'mean',
        patch_centering: str = 'mean',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_ranges(
            type(self).__name__,
            {
                'int [1, inf)': dict(
                    num_prototypes=num_prototypes, num_patch_prototypes=num_patch_prototypes
                ),
                '(0, inf)': dict(
                    student_temperature=student_temperature,
                    teacher_temperature=teacher_temperature,
                    teacher_patch_temperature=teacher_patch_temperature,
                ),
                '[0, 1]': dict(
                    center_momentum=center_momentum, patch_center_momentum=patch_center_momentum
                ),
                '[0, inf)': dict(
                    cls_weight=cls_weight, patch_weight=patch_weight, visible_weight=visible_weight
                ),
            },
        )
        for name, value in dict(centering=centering, patch_centering=patch_centering).items():
            if value not in CENTERINGS:
                raise ValueError(f'IBOTHead: {name} must be one of {CENTERINGS}, got {value!r}')
        self.centering = centering
        self.patch_centering = patch_centering
        self.visible_weight = visible_weight
        self.num_prototypes = num_prototypes
        self.num_patch_prototypes = num_patch_prototypes or num_prototypes
        self.student_temperature = student_temperature
        self.center_momentum = center_momentum
        self.patch_center_momentum = patch_center_momentum
        self.cls_weight = cls_weight
        self.patch_weight = patch_weight
        self.set_temperatures(teacher_temperature, teacher_patch_temperature)
        self._overflowed: Tensor | None = None  # on the device, not read before it is asked for
        self.register_buffer('cls_center', torch.zeros(self.num_prototypes))
        self.register_buffer('patch_center', torch.zeros(self.num_patch_prototypes))

    def set_temperatures(self, cls: float, patch: float) -> None:
        """Set the teacher's temperatures for [CLS] and patch targets."""
        self.teacher_temperature = cls
        self.teacher_patch_temperature = patch

    def loss(
        self,
        student_cls: Tensor,
        student_patch: Tensor,
        teacher_cls: Tensor,
        teacher_patch: Tensor,
        teacher_patch_mean: Tensor,
        patch_weights: Tensor,
    ) -> dict[str, Tensor]:
        """Compute both losses of a batch, float32 at least, then move the centers.

        Where the teacher's logits are not finite, on any process, even at a patch that no
        loss reads, the centers stay where they are, and both losses and all gradients are NaN:
        what watches for bad steps cannot miss it.

        Args:
            student_cls: Logits of V views, those of the teacher first, shape (V, B, K).
            student_patch: Logits of the patches that the loss reads, shape (M, K'): the masked
                ones, or with ``visible_weight`` all.
            teacher_cls: Logits of the G global views, shape (G, B, K).
            teacher_patch: Logits of the same patches, shape (M, K').
            teacher_patch_mean: Mean logits over *all* patches of the global views, shape (K',).
            patch_weights: Share of each of these patches in the loss, shape (M,).

        Returns:
            ``loss_cls`` and ``loss_patch``, and to be logged ``agreement`` (share of images whose
            first view in the teacher and second in the student choose the same prototype)
            and ``teacher_entropy`` (mean, in nats, of the [CLS] targets).

        Raises:
            ValueError: If fewer than two views are given.
        """
        if len(student_cls) < 2:
            raise ValueError('The [CLS] loss needs two views: use two global crops, or local ones.')
        with torch.autocast(student_cls.device.type, enabled=False):
            cls_center, patch_center = self._centers(teacher_cls, teacher_patch)
            cls = cls_loss(
                student_cls,
                teacher_cls,
                cls_center,
                self.student_temperature,
                self.teacher_temperature,
            )
            patch = patch_loss(
                student_patch,
                teacher_patch,
                patch_center,
                patch_weights,
                self.student_temperature,
                self.teacher_patch_temperature,
            )
            statistics = self._statistics(student_cls, teacher_cls, cls_center)
            cls_mean = teacher_cls.mean(dim=(0, 1), dtype=self.cls_center.dtype)
            finite = self.update_centers(cls_mean, teacher_patch_mean)
            one = torch.where(finite, 1.0, float('nan'))  # a factor, to reach the gradients
            losses = dict(
                loss_cls=self.cls_weight * one * cls, loss_patch=self.patch_weight * one * patch
            )
            return losses | statistics

    @torch.no_grad()
    def update_centers(self, cls_mean: Tensor, patch_mean: Tensor) -> Tensor:
        """Move the centers towards this step's mean teacher logits, over all processes.

        Args:
            cls_mean: Mean over the [CLS] tokens of this process, shape (K,).
            patch_mean: Mean over the patch tokens of this process, shape (K',).

        Returns:
            Whether all means are finite, a bool tensor (), the same on all processes. If not, the
            centers stay: one such value would be in them for good.
        """
        means = torch.cat([cls_mean, patch_mean.to(cls_mean)])
        all_reduce(means, op='mean')
        finite = means.isfinite().all()
        cls_mean, patch_mean = means.split([len(cls_mean), len(patch_mean)])
        for center, mean, momentum in (
            (self.cls_center, cls_mean, self.center_momentum),
            (self.patch_center, patch_mean, self.patch_center_momentum),
        ):
            center.lerp_(torch.where(finite, mean.to(center), center), 1 - momentum)
        return finite

    @torch.no_grad()
    def targets(self, teacher_cls: Tensor, teacher_patch: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the targets of this step's losses from the teacher's logits, for who watches.

        Sinkhorn centers are those of these logits alone: processes do not wait for each other.

        Args:
            teacher_cls: Shape (..., K).
            teacher_patch: Shape (M, K').

        Returns:
            Probabilities of the same shapes.
        """
        cls_center, patch_center = self._centers(teacher_cls, teacher_patch, reduce=None)
        return (
            teacher_targets(teacher_cls, cls_center, self.teacher_temperature),
            teacher_targets(teacher_patch, patch_center, self.teacher_patch_temperature),
        )

    @torch.no_grad()
    def _centers(
        self, teacher_cls: Tensor, teacher_patch: Tensor, reduce: Reduce | None = all_reduce
    ) -> tuple[Tensor, Tensor]:
        """Return what this step's targets are centered by, (K,) and (K')."""
        temperatures = self.teacher_temperature, self.teacher_patch_temperature
        cls = _center(self.centering, self.cls_center, teacher_cls, temperatures[0], reduce)
        patch = _center(
            self.patch_centering, self.patch_center, teacher_patch, temperatures[1], reduce
        )
        sinkhorn_in_half = [
            center
            for center, logits, centering in (
                (cls, teacher_cls, self.centering),
                (patch, teacher_patch, self.patch_centering),
            )
            if centering == 'sinkhorn' and logits.dtype == torch.float16
        ]
        for center in sinkhorn_in_half:
            spoiled = ~center.isfinite().all()
            self._overflowed = spoiled if self._overflowed is None else self._overflowed | spoiled
        return cls, patch

    def explain_overflow(self) -> str:
        """Say what to set if logits have overflowed in fp16 under Sinkhorn-Knopp; else ''.

        One such logit spoils the targets of the whole batch. Reading it waits for the device.
        """
        if self._overflowed is None or not self._overflowed:
            return ''
        return (
            "The teacher's logits overflowed in fp16, and Sinkhorn-Knopp centering spreads that to "
            'the whole batch: set model.neck.precise=True, which computes projection and '
            "prototypes in float32, or optim_wrapper.dtype='bfloat16'."
        )

    @torch.no_grad()
    def _statistics(
        self, student_cls: Tensor, teacher_cls: Tensor, center: Tensor
    ) -> dict[str, Tensor]:
        same = teacher_cls[0].argmax(dim=-1) == student_cls[1].argmax(dim=-1)
        targets = teacher_targets(teacher_cls, center, self.teacher_temperature)
        entropy = torch.special.entr(targets).sum(dim=-1).mean()
        return dict(agreement=same.float().mean(), teacher_entropy=entropy)


def _center(
    centering: str, moving_mean: Tensor, logits: Tensor, temperature: float, reduce: Reduce | None
) -> Tensor:
    """Return what the targets of one kind of token are centered by, (K,)."""
    if centering == 'mean':
        return moving_mean
    if centering == 'sinkhorn':
        return sinkhorn_center(logits, temperature, reduce=reduce)
    return torch.zeros_like(moving_mean)
