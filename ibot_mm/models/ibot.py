# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""iBOT: image BERT pre-training with an online tokenizer (arXiv 2111.07832)."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from mmengine.model import ModuleDict
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ibot_mm.functional.losses import patch_weights
from ibot_mm.functional.token_selection import masked_patches, select_tokens
from ibot_mm.models.patch_projection import find_patch_projection, set_patch_projection
from ibot_mm.models.student import Crops, project_tokens, student_tokens
from ibot_mm.models.teacher import EMATeacher
from ibot_mm.registry import MODELS


@MODELS.register_module()
class IBOT(BaseSelfSupervisor):
    """Student and teacher see crops of one image; the teacher is the student's tokenizer.

    ``backbone`` and ``neck`` are the student, ``teacher.backbone`` and ``teacher.neck`` the
    teacher, ``head`` the losses. The algorithm reads no global state: hooks set temperatures
    (:meth:`set_temperatures`), update the teacher (:meth:`update_teacher`) and freeze
    prototypes (:meth:`drop_prototype_gradients`) and patch embedding
    (:meth:`drop_patch_embedding_gradients`), and ask why a loss is not finite
    (:meth:`explain_overflow`).

    Args:
        backbone (dict): Student backbone, ``forward(images, masks=None)`` giving a tuple whose
            last is the tokens (B, 1 + N, D), [CLS] first.
        neck (dict): Student neck, see :class:`IBOTNeck`.
        head (dict): Losses, see :class:`IBOTHead`.
        teacher (dict): What the teacher's configuration changes of the student's, by part.
            Defaults to no drop path and no mask token:
            ``dict(backbone=dict(drop_path_rate=0., mask_token=False))``.
        tokenizer (dict, optional): What gives the targets of masked patches, such as
            ``dict(type='ibot_mm.FrozenTokenizer', ...)``. Defaults to None: the teacher, online.
        regularizers (dict, optional): Further losses on the student's tokens of global crops, by
            name: ``dict(koleo=dict(type='ibot_mm.KoLeoLoss', weight=0.1))`` is logged as
            ``loss_koleo``. Defaults to None.
        evaluate (str): Network whose features validation and export read, 'teacher' or 'student'.
            Defaults to 'teacher'.
        compile_backbone (bool): Whether to compile both backbones by ``torch.compile``, once for
            any number of masked patches. They then compute what drop path drops. For GPUs: on
            a CPU it does not pay. Defaults to False.
        pack_crops (bool): Whether the student's backbone runs on global and local crops in one
            pass, with the tokens of both in one tensor for norms and linear layers. The function
            is the same; with drop path the random numbers are others. Defaults to False.
        data_preprocessor (dict, optional): Defaults to ImageNet statistics by
            :class:`MultiCropPreprocessor`.
        init_cfg (dict | list, optional): Initialization. Defaults to None.

    Raises:
        ValueError: If head, neck and tokenizer differ in the number of prototypes, teacher and
            student in shape, ``evaluate`` is neither of the two, or the backbone cannot
            ``pack_crops``.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        teacher: dict = dict(backbone=dict(drop_path_rate=0.0, mask_token=False)),
        tokenizer: dict | None = None,
        regularizers: dict[str, dict] | None = None,
        evaluate: str = 'teacher',
        compile_backbone: bool = False,
        pack_crops: bool = False,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        data_preprocessor = data_preprocessor or dict(
            type='ibot_mm.MultiCropPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            to_rgb=True,
        )
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=head,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        if evaluate not in ('teacher', 'student'):
            raise ValueError(f"evaluate must be 'teacher' or 'student', got {evaluate!r}.")
        if pack_crops and not getattr(self.backbone, 'packs_sizes', False):
            raise ValueError(
                f'pack_crops=True: {type(self.backbone).__name__} takes crops of one size at a '
                'time. Leave it out, or take MaskedVisionTransformer.'
            )
        self.evaluate = evaluate
        self.pack_crops = pack_crops
        self._watchers: list[Callable[[Tensor, Tensor, Tensor], None]] = []
        self.tokenizer: Any = None if tokenizer is None else MODELS.build(tokenizer)
        self._check_prototypes()
        teacher_backbone = copy.deepcopy(backbone) | teacher.get('backbone', {})
        teacher_backbone.pop('init_cfg', None)  # it starts from the student, after that has loaded
        self.teacher = EMATeacher(
            MODELS.build(teacher_backbone),
            MODELS.build(copy.deepcopy(neck) | teacher.get('neck', {})),
        )
        self.teacher.copy_from(self.backbone, self.neck)
        self.regularizers = ModuleDict(
            {name: MODELS.build(loss) for name, loss in (regularizers or {}).items()}
        )
        self.compile_backbone = compile_backbone
        if compile_backbone:
            self.backbone.compile()
            self.teacher.backbone.compile()

    def _check_prototypes(self) -> None:
        for name in ('num_prototypes', 'num_patch_prototypes'):
            of_neck, of_head = getattr(self.neck, name), getattr(self.head, name)
            if of_neck != of_head:
                raise ValueError(
                    f'{name} is {of_neck} in the neck and {of_head} in the head: set them equal.'
                )
        number = self.head.num_patch_prototypes
        if self.tokenizer is not None and self.tokenizer.num_tokens != number:
            raise ValueError(
                f'The tokenizer has {self.tokenizer.num_tokens} tokens and num_patch_prototypes is '
                f'{number}: set that of neck and head to the same, with shared_head=False in the '
                'neck where [CLS] has another number.'
            )

    def init_weights(self) -> None:
        """Initialize the student, then make the teacher its copy."""
        super().init_weights()
        self.teacher.copy_from(self.backbone, self.neck)

    def forward(
        self,
        inputs: Any,
        data_samples: list[DataSample] | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Run for training ('loss'), evaluation ('predict') or features ('tensor')."""
        if mode == 'predict':
            return self.predict(inputs, data_samples or [])
        return super().forward(inputs, data_samples, mode)

    def loss(
        self, inputs: dict[str, Tensor], data_samples: list[DataSample] | None = None
    ) -> dict[str, Tensor]:
        """Compute both losses of one batch.

        Args:
            inputs: ``global_crops`` (B, G, 3, H, W), ``masks`` (B, G, H/p, W/p), True where
                masked, where there are any ``local_crops`` (B, L, 3, h, w), and at best
                ``masked_patches``, see :func:`masked_patches`: to find them waits for a GPU.
            data_samples: Not used. Defaults to None.

        Returns:
            As :meth:`IBOTHead.loss`, and ``loss_NAME`` of each regularizer.
        """
        # View-major order: all images of the first view, then of the second, ...
        global_crops = inputs['global_crops'].transpose(0, 1)  # (G, B, 3, H, W)
        num_global_crops, batch_size = global_crops.shape[:2]
        global_crops = global_crops.flatten(0, 1)  # (G * B, 3, H, W)
        masks = inputs['masks'].transpose(0, 1).flatten(0, 1)  # (G * B, H/p, W/p)
        patches = inputs.get('masked_patches')  # (M,)
        if self.head.visible_weight:
            patches = torch.arange(masks.numel(), device=masks.device)
        patches = masked_patches(inputs['masks']) if patches is None else patches

        # The teacher sees global crops whole; its center needs the mean over all its patches.
        teacher_cls, teacher_patch, teacher_patch_mean = self._teacher_logits(global_crops, patches)

        # The student sees global crops masked and local crops whole.
        norm_over_tokens = self.neck.norm_over_tokens
        whole = norm_over_tokens or any(loss.reads_patches for loss in self.regularizers.values())
        crops = [Crops(global_crops, patches, masks, whole)]
        if 'local_crops' in inputs:
            local_crops = inputs['local_crops'].transpose(0, 1).flatten(0, 1)  # (L * B, 3, h, w)
            crops.append(Crops(local_crops, patches[:0], whole=norm_over_tokens))
        tokens = student_tokens(self.backbone, crops, self.pack_crops)
        projections = [project_tokens(self.neck, t, c.patches) for t, c in zip(tokens, crops)]
        student_cls, student_patch = projections[0].tensor_split([len(global_crops)])
        student_cls = torch.cat([student_cls, *projections[1:]])  # ((G + L) * B, C)
        student_cls, student_patch = self.neck.logits(student_cls, student_patch)

        precision = torch.promote_types(global_crops.dtype, torch.float32)
        losses = self.head.loss(
            student_cls=student_cls.unflatten(0, (-1, batch_size)),
            student_patch=student_patch,
            teacher_cls=teacher_cls.unflatten(0, (num_global_crops, batch_size)),
            teacher_patch=teacher_patch,
            teacher_patch_mean=teacher_patch_mean,
            patch_weights=patch_weights(
                masks.flatten(1), patches, precision, self.head.visible_weight
            ),
        )
        if self.regularizers:
            by_image = tokens[0] if whole else tokens[0][: len(global_crops), None]
            views = by_image.unflatten(0, (num_global_crops, batch_size))
            for name, regularizer in self.regularizers.items():
                losses[f'loss_{name}'] = regularizer(views, global_crops)
        return losses

    @torch.no_grad()
    def _teacher_logits(self, images: Tensor, patches: Tensor) -> tuple[Tensor, ...]:
        """[CLS] logits (G * B, K), those of masked patches (M, K'), their mean over all (K').

        Prototypes are linear: the mean of their logits is the logits of the mean.
        """
        tokens = self.teacher.backbone(images)[-1]
        projections = self.teacher.neck.project(tokens, 1)
        mean = projections[:, 1:].mean(dim=(0, 1))
        cls, masked = select_tokens(projections, patches).tensor_split([len(images)])
        if self.tokenizer is None:
            cls, masked, mean = self.teacher.neck.logits(cls, masked, mean)
        else:
            (cls,) = self.teacher.neck.logits(cls)
            masked, mean = self.tokenizer(images, patches)
        for watcher in self._watchers:
            watcher(tokens, cls, masked)
        return cls, masked, mean

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return backbone features of the network named by ``evaluate``."""
        network = self.teacher.backbone if self.evaluate == 'teacher' else self.backbone
        return network(inputs)

    def predict(self, inputs: Tensor, data_samples: list[DataSample]) -> list[DataSample]:
        """Put what evaluations read of each image's [CLS] into its data sample.

        ``feature`` (D,), and ``prototype``, the number () of the one with the largest logit.
        """
        neck = self.teacher.neck if self.evaluate == 'teacher' else self.neck
        features = self.extract_feat(inputs)[-1][:, 0]
        (logits,) = neck.logits(neck.project(features))
        for data_sample, feature, of_image in zip(data_samples, features, logits):
            data_sample.set_field(feature, 'feature')
            data_sample.set_field(of_image.argmax(), 'prototype')
        return data_samples

    def watch_teacher(self, watcher: Callable[[Tensor, Tensor, Tensor], None]) -> None:
        """Hand what the teacher says in every step to a watcher, until :meth:`unwatch_teacher`.

        That is the tokens of the global crops (G * B, 1 + N, D), view-major, the logits of [CLS]
        (G * B, K), and those of the patches that the loss reads (M, K').
        """
        self._watchers.append(watcher)

    def unwatch_teacher(self, watcher: Callable[[Tensor, Tensor, Tensor], None]) -> None:
        """Stop that; nothing happens if it was not begun."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)

    def update_teacher(self, momentum: float, skip: Tensor | None = None) -> None:
        """Move the teacher towards the student: keep ``momentum`` of it, or where ``skip`` all."""
        self.teacher.update(self.backbone, self.neck, momentum, skip)

    def set_temperatures(self, cls: float, patch: float) -> None:
        """Set the teacher's temperatures for [CLS] and patch targets."""
        self.head.set_temperatures(cls, patch)

    def explain_overflow(self) -> str:
        """Say what to set if the head knows why a loss is not finite; else ''."""
        return self.head.explain_overflow()

    def drop_prototype_gradients(self) -> None:
        """Forget the gradients of the prototypes, so that the optimizer leaves them alone."""
        for parameter in self.neck.prototype_parameters():
            parameter.grad = None

    def start_patch_embedding(self, weight: Tensor, bias: Tensor) -> None:
        """Set the patch embedding of student and teacher.

        Args:
            weight: Shape (D, 3 * p * p), of flat patches.
            bias: Shape (D,).

        Raises:
            TypeError: If the backbone does not embed patches by one layer of patches side by side.
        """
        set_patch_projection(self.backbone, weight, bias)
        self.teacher.copy_from(self.backbone, self.neck)

    def patch_projection(self) -> nn.Conv2d:
        """Return the student's layer that embeds patches, which do not overlap.

        Raises:
            TypeError: If the backbone does it in another way.
        """
        return find_patch_projection(self.backbone)

    def drop_patch_embedding_gradients(self) -> None:
        """Forget those of the patch embedding: the projection of pixels and what belongs to it."""
        for parameter in self.backbone.patch_embed.parameters():
            parameter.grad = None
