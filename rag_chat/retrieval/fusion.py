"""Fusion: what several searches found becomes one ranking, by scores or by ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rag_chat.types import Hit

RRF_K = 10
"""How little the first ranks stand out. Cormack, Clarke and Buettcher (SIGIR 2009) take 60 for the rankings
of many systems; of the few queries of one turn, what one finds first should count (docs/conversation.md)."""


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


DENSE_SHARE = 0.6
"""Chosen on half of the SQuAD articles; recall@5 on the other half, and on the starter test dialogues, is
2 to 3 points above that of reciprocal ranks (docs/retrieval.md)."""


def score_fusion(dense: Mapping[int, float], lexical: Mapping[int, float]) -> list[tuple[int, float]]:
    """Fuse cosines and BM25 scores by id, each divided by the best of its kind (Bruch, Gai and Ingber 2023).

    Returns (id, score), best first, ties by id; the score is at most 1, and a passage that one search did
    not find gets nothing from it. Unlike ranks, scores keep how far the first is ahead of the rest.
    """
    scores: dict[int, float] = {}
    for found, share in ((dense, DENSE_SHARE), (lexical, 1 - DENSE_SHARE)):
        most = max(found.values(), default=0.0)
        for one, score in found.items():
            scores[one] = scores.get(one, 0.0) + share * (score / most if most > 0 else 0.0)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def fuse_hits(rankings: Sequence[Sequence[Hit]], weights: Sequence[float]) -> list[Hit]:
    """Fuse what several queries found into one ranking, by rank and the weight of each query.

    A single ranking stays as it is. `score` is the fused one; `dense` and `lexical` are those of the
    heaviest query that found the passage.
    """
    if len(rankings) == 1:
        return list(rankings[0])
    by_weight = sorted(zip(weights, rankings, strict=True), key=lambda pair: -pair[0])
    hits = {hit.passage.id: hit for _, ranking in reversed(by_weight) for hit in ranking}
    names = list(hits)
    number = {name: n for n, name in enumerate(names)}
    fused = reciprocal_rank_fusion([[number[h.passage.id] for h in one] for one in rankings], weights)
    return [replace(hits[names[n]], score=score, rank=rank) for rank, (n, score) in enumerate(fused, 1)]
