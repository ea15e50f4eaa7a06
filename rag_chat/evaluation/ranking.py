"""Scores for rankings, through ir-measures: recall@k, mean reciprocal rank, nDCG. All lie in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rag_chat.errors import ModelError, require
from rag_chat.types import Hit

DEPTHS = (1, 3, 5, 10, 20)
DEPTH = max(DEPTHS)
MEASURES = (*(f"recall@{k}" for k in DEPTHS), "mrr@10", "ndcg@10")

Judgements = Mapping[str, Mapping[str, int]]
"""By query: how relevant a document is, 0 for not at all."""


def rank_scores(
    rankings: Mapping[str, Sequence[str]], judged: Judgements, measures: Sequence[str] = MEASURES
) -> dict[str, dict[str, float]]:
    """Score each query: {measure: {query: score}} for every query judged, in their order.

    `rankings`: document ids by query, best first, none twice; a query that is not there found nothing.
    recall@k is the share of the relevant documents among the first k. Needs the extra `eval`.
    """
    ir_measures = require("ir_measures", "eval")
    wanted = {_measure(ir_measures, name): name for name in measures}
    found = {  # scores that fall with the rank: the order given is the order judged
        query: {document: float(-rank) for rank, document in enumerate(rankings.get(query, ()))}
        for query in judged
    }
    scores = {name: dict.fromkeys(judged, 0.0) for name in measures}
    relevant = {query: dict(documents) for query, documents in judged.items()}
    for one in ir_measures.iter_calc(list(wanted), relevant, found):
        scores[wanted[one.measure]][one.query_id] = float(one.value)
    return scores


def _measure(ir_measures: Any, name: str) -> Any:
    kind, _, depth = name.partition("@")
    return {"recall": ir_measures.R, "mrr": ir_measures.RR, "ndcg": ir_measures.nDCG}[kind] @ int(depth)


def sources_found(hits: Sequence[Hit]) -> list[str]:
    """The documents of hits, one a hit, so that ranks stay those of the passages.

    A document is found by its first passage; a further one only takes up its place. Raises ModelError for
    a score that is not a number.
    """
    check_finite(hit.score for hit in hits)
    seen: set[str] = set()
    places = []
    for hit in hits:
        source = hit.passage.source
        places.append(f"{source}\n{hit.rank}" if source in seen else source)
        seen.add(source)
    return places


def check_finite(scores: Iterable[float]) -> None:
    """Raise ModelError when a score is NaN or infinite: a ranking by it means nothing."""
    if not all(math.isfinite(score) for score in scores):
        raise ModelError(
            "The search gave a score that is not a number.",
            "Check the index with: rag-chat index verify DIR; a model that was trained may have diverged.",
        )
