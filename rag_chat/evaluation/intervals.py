"""Bootstrap intervals over conversations."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

RESAMPLES = 2000

Interval = tuple[float, float, float]
"""Mean, and the ends of its 95% interval."""


def mean_interval(
    scores: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Mean and 95% percentile bootstrap interval (mean, low, high).

    `groups` names the conversation of each score, and whole conversations are drawn: the turns of one are
    not independent, and drawing turns would make the interval too narrow (Davison and Hinkley 1997, 3.8).
    None: each score is a group of its own. One group alone tells nothing of the spread: its interval is the
    mean. Raises ValueError for no scores, or one that is not a finite number.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError("there must be scores, and each a finite number")
    names = list(range(values.size)) if groups is None else list(groups)
    if len(names) != values.size:
        raise ValueError(f"{values.size} scores, and {len(names)} groups")
    place = {name: i for i, name in enumerate(dict.fromkeys(names))}
    member = np.array([place[name] for name in names])
    sums, sizes = np.bincount(member, weights=values), np.bincount(member)
    rng, mean = np.random.default_rng(seed), float(values.mean())
    draws = (rng.integers(len(place), size=len(place)) for _ in range(resamples))
    means = [sums[drawn].sum() / sizes[drawn].sum() for drawn in draws]
    low, high = np.quantile(means, (0.025, 0.975))
    return mean, min(mean, float(low)), max(mean, float(high))  # means of equal scores differ in the last bit


def paired_interval(
    scores: Sequence[float],
    others: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Mean of `scores` minus `others` on the same turns, with its interval: see `mean_interval`.

    It is above 0 as a whole when the first are better beyond chance.
    """
    differences = [a - b for a, b in zip(scores, others, strict=True)]
    return mean_interval(differences, groups, seed=seed, resamples=resamples)
