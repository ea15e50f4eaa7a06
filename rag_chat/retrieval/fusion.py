"""Reciprocal rank fusion: several rankings become one, from their ranks alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rag_chat.types import Hit

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


def fuse_hits(rankings: Sequence[Sequence[Hit]], weights: Sequence[float], k: int) -> list[Hit]:
    """Fuse what several queries found into the k best, by rank and the weight of each query.

    A single ranking stays as it is. `score` is the fused one; `dense` and `lexical` are those of the
    heaviest query that found the passage.
    """
    if len(rankings) == 1:
        return list(rankings[0][:k])
    by_weight = sorted(zip(weights, rankings, strict=True), key=lambda pair: -pair[0])
    hits = {hit.passage.id: hit for _, ranking in reversed(by_weight) for hit in ranking}
    names = list(hits)
    number = {name: n for n, name in enumerate(names)}
    fused = reciprocal_rank_fusion([[number[h.passage.id] for h in one] for one in rankings], weights)
    return [replace(hits[names[n]], score=score, rank=rank) for rank, (n, score) in enumerate(fused[:k], 1)]
