# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Whether a training can leave the state in which every image gets the same target.

Take logits that are nearly the same for all images. To first order, the loss pulls the student's
departure from the mean, z / student_temperature, towards the teacher's, of which a share
``correlation`` is the same in another view of the image. The student follows within a few steps and
the teacher follows the student, so a departure grows in each step by

    (1 - momentum) * (correlation * student_temperature / teacher_temperature - 1)

of itself. Where ``teacher_temperature > correlation * student_temperature`` it shrinks: targets
return to uniform, at any learning rate, and stay there.
"""

from collections.abc import Iterable

CORRELATION = 0.5  # of the [CLS] logits of two views, in small networks that have hardly trained
NEEDED_GROWTH = 3.0  # of the logarithm: a factor of 20


def growth_per_step(
    teacher_temperature: float,
    momentum: float,
    student_temperature: float = 0.1,
    correlation: float = CORRELATION,
) -> float:
    """Compute the growth of departures from uniform targets, the logarithm of a factor a step.

    Args:
        teacher_temperature: Of [CLS] targets.
        momentum: Of the teacher, 0 to 1.
        student_temperature: Defaults to 0.1.
        correlation: Of the logits of two views of an image, their mean over images removed.
            Defaults to 0.5.
    """
    return (1 - momentum) * (correlation * student_temperature / teacher_temperature - 1)


def steps_to_leave(growths: Iterable[float], needed: float = NEEDED_GROWTH) -> int | None:
    """Find the first step by which small departures have grown enough.

    Args:
        growths: :func:`growth_per_step` of each step of a training. What shrinks is not
            counted below the start: noise makes new departures.
        needed: Logarithm of the factor. Defaults to 3, a factor of 20.

    Returns:
        The number of steps, or None where they never do.
    """
    total = 0.0
    for step, growth in enumerate(growths, start=1):
        total = max(total + growth, 0.0)
        if total >= needed:
            return step
    return None
