"""Reranking: a cross-encoder reads query and passage together, and puts the best of many first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from rag_chat.errors import ModelError
from rag_chat.types import Hit

RERANK_DEPTH = 50
"""How many hits are read again: on a CPU each costs as much as embedding a passage does."""


class Reranker(Protocol):
    """Orders hits anew."""

    def rerank(self, query: str, hits: Sequence[Hit]) -> list[Hit]:
        """Return the same hits, best first, with the scores they are now ordered by."""
        ...


class CrossEncoderReranker:
    """A sentence-transformers CrossEncoder; `score` becomes its output, and the parts stay as they were."""

    def __init__(self, name: str | Path, *, device: str | None = None) -> None:
        """Load a folder, or a name on the Hugging Face hub. Raises ModelError."""
        from sentence_transformers import CrossEncoder

        self.name = str(name)
        try:
            self._model: Any = CrossEncoder(self.name, device=device, num_labels=1)
        except Exception as error:  # OSError, ValueError, SafetensorError, by what is wrong
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise ModelError(
                f"The reranker {self.name!r} could not be loaded: {reason}",
                "Give the folder or the name of a cross-encoder, e.g. cross-encoder/ms-marco-MiniLM-L6-v2.",
            ) from error

    def rerank(self, query: str, hits: Sequence[Hit]) -> list[Hit]:
        """Return the same hits, best first; of equals the one that was first. Raises ModelError for NaN."""
        if not hits:
            return []
        pairs = [(query, f"{hit.passage.context}\n{hit.passage.text}".strip()) for hit in hits]
        scores = [float(score) for score in self._model.predict(pairs, show_progress_bar=False)]
        if not all(map(math.isfinite, scores)):
            raise ModelError(
                f"The reranker {self.name!r} gave a score that is not a number.",
                "Search without --rerank, or with another cross-encoder.",
            )
        order = sorted(range(len(hits)), key=lambda i: -scores[i])
        return [replace(hits[i], score=scores[i], rank=rank) for rank, i in enumerate(order, 1)]
