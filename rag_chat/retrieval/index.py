"""The index that users hold: a folder that can be searched, densely, lexically, or both."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from rag_chat.config import SearchMode
from rag_chat.errors import UsageError
from rag_chat.index.dense import Ids, Vectors
from rag_chat.index.embedding import AnyEmbedder
from rag_chat.index.folder import IndexFolder
from rag_chat.retrieval.fusion import score_fusion
from rag_chat.retrieval.lexical import LexicalIndex
from rag_chat.retrieval.reranking import RERANK_DEPTH, Reranker
from rag_chat.types import Hit, Scalar

DEPTH = 100  # how many of each ranking hybrid search fuses, when k is not more

Scores = dict[int, float]
"""Scores by passage id, best first."""


class Index(IndexFolder):
    """An index folder that can be searched.

    `reranker`: where one is set, it orders the best RERANK_DEPTH of every search anew.
    """

    def __init__(self, path: str | Path, embedder: AnyEmbedder | None = None) -> None:
        super().__init__(path, embedder)
        self._words = LexicalIndex(self.store)
        self.reranker: Reranker | None = None

    def search(
        self,
        query: str,
        k: int = 5,
        *,
        mode: SearchMode = "hybrid",
        filter: Mapping[str, Scalar] | None = None,
        exclude_sources: Collection[str] = (),
    ) -> list[Hit]:
        """Return up to k hits, best first.

        `filter` keeps passages whose metadata (or `kind`, or `source`) equal all its values, compared
        as text; dense and hybrid search still return k where there are k. `exclude_sources` names
        documents and dialogues that must not be found. Lexical search finds only passages that share
        a word with the query. Raises UsageError for an empty query, k < 1, or an unknown filter key.
        """
        return self.search_many([query], k, mode=mode, filter=filter, exclude_sources=[exclude_sources])[0]

    def search_many(
        self,
        queries: Sequence[str],
        k: int = 5,
        *,
        mode: SearchMode = "hybrid",
        filter: Mapping[str, Scalar] | None = None,
        exclude_sources: Sequence[Collection[str]] | None = None,
    ) -> list[list[Hit]]:
        """Search for each query, with all of them embedded at once; `exclude_sources`: one for each."""
        _check(queries, k, mode)
        if not queries:
            return []
        if self.reranker is None:
            return self._found(queries, k, mode, filter, exclude_sources)
        many = self._found(queries, max(k, RERANK_DEPTH), mode, filter, exclude_sources)
        return [self.reranker.rerank(*pair)[:k] for pair in zip(queries, many, strict=True)]

    def _found(
        self,
        queries: Sequence[str],
        k: int,
        mode: SearchMode,
        filter: Mapping[str, Scalar] | None,
        exclude_sources: Sequence[Collection[str]] | None,
    ) -> list[list[Hit]]:
        vectors = None if mode == "lexical" else self.embedder.embed(queries, query=True)
        with self.snapshot():
            allowed = self.store.matching(filter) if filter else None
            excluded = [
                set(self.store.passage_ids(list(sources)).tolist()) if sources else set()
                for sources in exclude_sources or [()] * len(queries)
            ]
            depth = max(k, DEPTH) if mode == "hybrid" else k
            lexical = [
                self._lexical(query, depth, allowed, out) if mode != "dense" else {}
                for query, out in zip(queries, excluded, strict=True)
            ]
            if vectors is None:
                return [self._hits(scores, k, {}, scores) for scores in lexical]
            dense = self._dense(vectors, depth, allowed, excluded)
            if mode == "dense":
                return [self._hits(scores, k, scores, {}) for scores in dense]
            return [
                self._fused(vector, k, *both) for vector, *both in zip(vectors, dense, lexical, strict=True)
            ]

    def _lexical(self, query: str, k: int, allowed: Ids | None, excluded: set[int]) -> Scores:
        return _without(self._words.search(query, k + len(excluded), allowed), excluded, k)

    def _dense(
        self, queries: Vectors, k: int, allowed: Ids | None, excluded: Sequence[set[int]]
    ) -> list[Scores]:
        # Fetching as many more as could be excluded is exact, and one call serves all queries.
        more = max((len(out) for out in excluded), default=0)
        ids, cosines = self.dense_search(queries, k + more, allowed)
        return [
            _without(list(zip(row.tolist(), scores.tolist(), strict=True)), out, k)
            for row, scores, out in zip(ids, cosines, excluded, strict=True)
        ]

    def _fused(self, query: Vectors, k: int, dense: Scores, lexical: Scores) -> list[Hit]:
        """Fuse both searches; the cosine of a passage that only words found is worked out."""
        best = dict(score_fusion(dense, lexical)[:k])
        ids = np.array(list(best), dtype=np.int64)
        cosines = dict(zip(best, self.cosines(query, ids).tolist(), strict=True))
        return self._hits(best, k, cosines | {i: dense[i] for i in best if i in dense}, lexical)

    def _hits(self, scores: Scores, k: int, dense: Scores, lexical: Scores) -> list[Hit]:
        best = list(scores)[:k]
        passages = self.store.passages(best)
        return [
            Hit(passages[i], scores[i], rank, dense.get(i), lexical.get(i)) for rank, i in enumerate(best, 1)
        ]


def _without(found: Sequence[tuple[int, float]], excluded: set[int], k: int) -> Scores:
    return dict([(i, score) for i, score in found if i not in excluded][:k])


def _check(queries: Sequence[str], k: int, mode: str) -> None:
    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}.", "Try k=5.")
    if mode not in get_args(SearchMode):
        raise UsageError(f"There is no search mode {mode!r}.", "Use hybrid, dense or lexical.")
    if not all(query.strip() for query in queries):
        raise UsageError("The query is empty.", "Ask for something.")
