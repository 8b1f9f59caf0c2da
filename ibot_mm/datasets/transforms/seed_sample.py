# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import random

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dist import get_rank

from ibot_mm.registry import TRANSFORMS

from .shared_integers import SharedIntegers


@TRANSFORMS.register_module()
class SeedSample(BaseTransform):
    """Seed the random generators from seed, epoch, process and image.

    Put first in a pipeline, it makes every draw after it a function of these four: the same
    whatever the number of workers, in whichever of them, and after a resume; different in every
    epoch and in every process of a distributed run. Whoever drives the epochs calls
    :meth:`set_epoch`; persistent workers see it too.

    The generators are the global ones of :mod:`random`, numpy and torch (CPU), which is where mm
    transforms draw.

    Required keys: ``sample_idx``. Added keys: ``epoch``.
    """

    def __init__(self) -> None:
        self._shared = SharedIntegers(3)
        self.set_epoch(0)

    def set_epoch(self, epoch: int, seed: int = 0) -> None:
        """Set epoch and seed, from the main process, before the data loader is iterated.

        Args:
            epoch: Counted from 0.
            seed: The training's. Defaults to 0.
        """
        self._shared[0] = seed
        self._shared[1] = epoch
        self._shared[2] = get_rank()  # spawned workers know no process group

    def transform(self, results: dict) -> dict:
        """Seed the generators.

        Args:
            results: From the data set.

        Returns:
            The same dict with ``epoch``.

        Raises:
            ValueError: ``sample_idx`` is missing.
        """
        if 'sample_idx' not in results:
            raise ValueError(
                'SeedSample needs results["sample_idx"], which data sets derived from '
                "mmengine's BaseDataset add; add it to the data set or leave SeedSample out"
            )
        seed, epoch, rank = self._shared[0], self._shared[1], self._shared[2]
        entropy = [seed, epoch, rank, int(results['sample_idx'])]
        words = np.random.SeedSequence(entropy).generate_state(4)
        np.random.seed(words)
        random.seed(int(words[0]))
        # torch.manual_seed would also reach for the accelerator, which workers must not do.
        torch.default_generator.manual_seed(int(words[1]))
        results['epoch'] = epoch
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
