# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Start the patch embedding from the data."""

import numpy as np
import torch
from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.nn import functional as F

from ibot_mm.engine.hooks.unwrap import unwrap_model
from ibot_mm.functional.ranges import check_ranges
from ibot_mm.functional.whitening import whitening_embedding
from ibot_mm.registry import HOOKS


@HOOKS.register_module()
class WhitenPatchesHook(Hook):
    """Starts the patch embedding as a whitening of the training images' patches.

    See :func:`~ibot_mm.functional.whitening.whitening_embedding`; patches are those of global crops
    as the training augments them. It is for trainings from nothing, and does nothing where one
    is resumed.

    Args:
        num_images (int): Images, at equal distances in the data set. Defaults to 500.
        eps (float): Of the whitening. Defaults to 0.01.

    Raises:
        ValueError: If a number is out of range.
    """

    priority = 'HIGH'  # before whoever looks at weights

    def __init__(self, num_images: int = 500, eps: float = 0.01) -> None:
        check_ranges(
            type(self).__name__,
            {'int [2, inf)': dict(num_images=num_images), '(0, inf)': dict(eps=eps)},
        )
        self.num_images = num_images
        self.eps = eps

    def before_train(self, runner: Runner) -> None:
        """Set student and teacher, the same in all processes.

        Raises:
            TypeError: If the backbone does not embed patches by one layer.
        """
        if runner.iter:
            return
        model = unwrap_model(runner, 'start_patch_embedding', type(self).__name__)
        layer = model.patch_projection()
        loader = runner.train_dataloader
        number = min(self.num_images, len(loader.dataset))
        chosen = np.linspace(0, len(loader.dataset) - 1, number).astype(int)
        patches = []
        for some in np.array_split(chosen, -(-number // 50)):
            batch = loader.collate_fn([loader.dataset[int(index)] for index in some])
            crops = model.data_preprocessor(batch, training=True)['inputs']['global_crops']
            flat = F.unfold(crops.flatten(0, 1).float(), layer.kernel_size, stride=layer.stride)
            patches.append(flat.transpose(1, 2).flatten(0, 1).cpu())
        generator = torch.Generator().manual_seed(int(runner.seed or 0))
        weight, bias = whitening_embedding(
            torch.cat(patches), layer.out_channels, self.eps, generator
        )
        place = dict(device=layer.weight.device, dtype=layer.weight.dtype)
        weight, bias = weight.to(**place), bias.to(**place)
        for tensor in (weight, bias):
            broadcast(tensor)
        model.start_patch_embedding(weight, bias)
        runner.logger.info(f'The patch embedding whitens the patches of {number} images.')
