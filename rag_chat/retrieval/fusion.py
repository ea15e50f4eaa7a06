"""Reciprocal rank fusion: several rankings become one, from their ranks alone."""

from __future__ import annotations

from collections.abc import Sequence

RRF_K = 60  # Cormack, Clarke and Buettcher, SIGIR 2009


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[int]], weights: Sequence[float] | None = None
) -> list[tuple[int, float]]:
    """Fuse rankings of ids, best first and without repeats, into one.

    Returns (id, score), best first, ties by id; score is the sum of weight / (RRF_K + rank) over the
    rankings that hold the id, ranks counted from 1. `weights`: one a ranking (None: 1.0 each).
    """
    scores: dict[int, float] = {}
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        for rank, one in enumerate(ranking, 1):
            scores[one] = scores.get(one, 0.0) + weight / (RRF_K + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
