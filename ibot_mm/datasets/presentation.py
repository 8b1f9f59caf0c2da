# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The clock of the data: every sample that is read is one presentation, and seeds follow from it.

A place in the sampler's order is all that tells two presentations apart: an index within a data set
comes again with repeated data sets, repeated augmentation, samplers without end.
"""

import random
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch

# Streams of random numbers that one presentation needs.
_DRAWS, _REPLACEMENT = 1, 2


@dataclass(frozen=True)
class Presentation:
    """One sample, read once, in a training.

    Args:
        seed: The training's.
        round: How often the sampler had begun before, which is the epoch where epochs are trained.
        position: Place in this round, counted over all processes: with k the place in the sampler
            of one of n processes, k * n + rank.
        epoch: Progress of the data, in passes through them.
    """

    seed: int
    round: int
    position: int
    epoch: float

    def _words(self, *stream: int) -> np.ndarray:
        # A spawn key keeps these seeds apart from those of the process (TrainingSeedHook).
        entropy = [self.seed, self.round, self.position]
        return np.random.SeedSequence(entropy, spawn_key=stream).generate_state(4)

    def seed_generators(self) -> None:
        """Seed the global generators of random, numpy and torch (CPU), where mm transforms draw."""
        words = self._words(_DRAWS)
        np.random.seed(words)
        random.seed(int(words[0]))
        # torch.manual_seed would also reach for the accelerator, which workers must not do.
        torch.default_generator.manual_seed(int(words[1]))

    def sample_replacement(self, retry: int, num_images: int) -> int:
        """Sample the image that takes the place of one that cannot be read.

        Args:
            retry: Counted from 1.
            num_images: To choose from.

        Returns:
            An index, from a generator of its own: different at each retry of each presentation.
        """
        words = self._words(_REPLACEMENT, retry)
        return int(np.random.default_rng(words).integers(num_images))


_current: ContextVar[Presentation | None] = ContextVar('presentation', default=None)


def current_presentation() -> Presentation | None:
    """Return the presentation that a data set is asked for in this process, None outside of one."""
    return _current.get()


def set_presentation(presentation: Presentation | None) -> None:
    """Begin a presentation and seed the generators for it; None ends the last one."""
    _current.set(presentation)
    if presentation is not None:
        presentation.seed_generators()
