# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Numbers over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.stats import t

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """Mean and spread of a metric over seeds.

    Args:
        mean: Over the seeds.
        std: Standard deviation with n - 1; None for one seed.
        count: Number of seeds n.
    """

    mean: float
    std: float | None
    count: int

    def __str__(self) -> str:
        return f'{self.mean:.1f}' + ('' if self.std is None else f' ± {self.std:.1f}')


@dataclass(frozen=True)
class Difference:
    """Mean of the differences of pairs with the same seed, and its interval.

    Args:
        mean: Of the arm less the reference.
        low: Lower end of the 95 % interval; None for one pair.
        high: Upper end.
        count: Number of pairs n.
    """

    mean: float
    low: float | None
    high: float | None
    count: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f'{self.mean:+.1f}'
        return f'{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]'


def summarize(values: Sequence[float]) -> Summary:
    """Summarize the values of all seeds, at least one."""
    return Summary(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def paired_difference(
    values: Mapping[int, float], reference: Mapping[int, float]
) -> Difference | None:
    """Compare two arms over the seeds that both have, by Student's t of the paired differences.

    The interval is mean ± t(0.975, n - 1) · std / √n. It holds for this comparison alone: of
    twenty such intervals one misses its value by chance.

    Args:
        values: Seed -> value of an arm.
        reference: The same of the reference.

    Returns:
        The difference, None without a common seed.
    """
    differences = [values[seed] - reference[seed] for seed in sorted(values.keys() & reference)]
    if not differences:
        return None
    found = summarize(differences)
    if found.std is None:
        return Difference(found.mean, None, None, 1)
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, found.count - 1))
    margin = quantile * found.std / found.count**0.5
    return Difference(found.mean, found.mean - margin, found.mean + margin, found.count)
