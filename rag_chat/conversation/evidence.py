"""Search for what a turn asks: each of its queries, then all that was found as one ranking."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from rag_chat.conversation.query import stand_alone
from rag_chat.retrieval.fusion import fuse_hits
from rag_chat.retrieval.index import Index
from rag_chat.types import Hit, Message, Passage, Query, Scalar, Turn

DEPTH = 30  # of each query's ranking
ALIKE = 0.2
"""The share of the passages that may be past exchanges: in similar situations other facts were asked for."""

NEAREST = 5  # passages among which the nearest is looked for
SHARPNESS = 20.0
"""How much nearness counts. With 10 to 30 mean recall@5 on what was set aside for tuning is 82.3 to 83.5."""

OWN = 0.5
"""From this cosine on, what the raw question finds first keeps a place among the passages."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was searched for, and the passages found, best first."""

    queries: tuple[Query, ...]
    hits: tuple[Hit, ...]

    @property
    def query(self) -> str:
        """The query that counted most."""
        return max(self.queries, key=lambda query: query.weight).text


def find_evidence(
    index: Index,
    plans: Sequence[Sequence[str]],
    k: int,
    *,
    filter: Mapping[str, Scalar] | None = None,
    exclude_sources: Sequence[Collection[str]] | None = None,
) -> list[Evidence]:
    """Find up to k passages for each plan, the queries of a turn; all are searched together.

    The rankings of a turn are fused by rank, each with the weight that its nearest passage earns it: a query
    that is about nothing in the index is near to nothing. `exclude_sources`: for each turn, documents and
    dialogues that must not be found.
    """
    excluded = exclude_sources or [()] * len(plans)
    rankings = _searched(index, plans, k, filter, excluded)
    few = [n for n, of in enumerate(rankings) if _documents(of) < k - _most_exchanges(k)]
    if few and "kind" not in (filter or {}):
        only = {**(filter or {}), "kind": "topic"}
        more = _searched(index, [plans[n] for n in few], k, only, [excluded[n] for n in few])
        for n, documents in zip(few, more, strict=True):
            rankings[n] = [continued(*pair) for pair in zip(rankings[n], documents, strict=True)]
    return [_fused(plan, of, k) for plan, of in zip(plans, rankings, strict=True)]


def turn_with(question: str, history: Sequence[Message], hits: Sequence[Hit]) -> Turn:
    """The turn as a generator sees it, with what was found for it."""
    passages = tuple(hit.passage for hit in hits)
    return Turn(question, tuple(history), passages, stand_alone(question, history))


def _searched(
    index: Index,
    plans: Sequence[Sequence[str]],
    k: int,
    filter: Mapping[str, Scalar] | None,
    excluded: Sequence[Collection[str]],
) -> list[list[list[Hit]]]:
    """What each query of each plan finds, all of them searched at once."""
    flat = [text for plan in plans for text in plan]
    out = [sources for plan, sources in zip(plans, excluded, strict=True) for _ in plan]
    found = iter(index.search_many(flat, max(k, DEPTH), filter=filter, exclude_sources=out))
    return [[next(found) for _ in plan] for plan in plans]


def _documents(rankings: Sequence[Sequence[Hit]]) -> int:
    """How many passages of documents are in the rankings; where exchanges crowd them out there are few."""
    return len({hit.passage.id for ranking in rankings for hit in ranking if hit.passage.kind == "topic"})


def continued(ranking: Sequence[Hit], deeper: Sequence[Hit]) -> list[Hit]:
    """A ranking, and after it what only a deeper one has."""
    known = {hit.passage.id for hit in ranking}
    both = [*ranking, *(hit for hit in deeper if hit.passage.id not in known)]
    return [replace(hit, rank=rank) for rank, hit in enumerate(both, 1)]


def _fused(plan: Sequence[str], rankings: Sequence[Sequence[Hit]], k: int) -> Evidence:
    weights = _weights(
        [max((hit.dense or 0.0 for hit in ranking[:NEAREST]), default=0.0) for ranking in rankings]
    )
    queries = tuple(Query(text, round(weight, 4)) for text, weight in zip(plan, weights, strict=True))
    hits = documents_first(fuse_hits(rankings, weights), k)
    return Evidence(queries, tuple(_with_own(rankings[0], hits, k)))


def documents_first(hits: Sequence[Hit], k: int) -> list[Hit]:
    """The k best, past exchanges among them at most ALIKE times k; more only where documents run out."""
    exchanges = [hit for hit in hits if hit.passage.kind == "dialogue"]
    extra = {hit.passage.id for hit in exchanges[_most_exchanges(k) :]}
    kept = [hit for hit in hits if hit.passage.id not in extra][:k]
    kept += [hit for hit in hits if hit.passage.id in extra][: k - len(kept)]
    lowest = accumulate((hit.score for hit in kept), min)  # those moved down are no better than those above
    return [
        replace(hit, rank=rank, score=score)
        for rank, (hit, score) in enumerate(zip(kept, lowest, strict=True), 1)
    ]


def _most_exchanges(k: int) -> int:
    return max(1, int(ALIKE * k))


def _with_own(raw: Sequence[Hit], hits: list[Hit], k: int) -> list[Hit]:
    """The k best hits, with the first document that the raw question finds, if it is near.

    The topic may have changed: a query with the old one in it is always nearer to something than a few words
    about a new one.
    """
    own = next((hit for hit in raw if hit.passage.kind == "topic"), None)
    if own is None or (own.dense or 0.0) < OWN or own.passage.id in {hit.passage.id for hit in hits}:
        return hits
    kept = [*hits[:1], replace(own, score=hits[0].score), *hits[1:]]
    return [replace(hit, rank=rank) for rank, hit in enumerate(kept[:k], 1)]


def _weights(cosines: Sequence[float]) -> list[float]:
    """Weights in (0, 1] that sum to 1: the softmax of SHARPNESS times the cosine of what is nearest."""
    powers = [math.exp(SHARPNESS * (cosine - max(cosines))) for cosine in cosines]
    return [power / sum(powers) for power in powers]


def given_evidence(question: str, passages: Sequence[Passage]) -> Evidence:
    """The passages that were given in place of a search; nothing is known of how near they are."""
    hits = tuple(Hit(passage, 1.0, rank) for rank, passage in enumerate(passages, 1))
    return Evidence((Query(question),), hits)
