"""Answers and hits as other programs read them: the JSON of the commands and of the server."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag_chat.types import Answer, Hit


def answer_json(answer: Answer) -> dict[str, Any]:
    """The answer with the keys of `ask --json`."""
    return {
        "answer": answer.text,
        "abstained": answer.abstained,
        "reason": answer.reason,
        "query": answer.query,
        "citations": [asdict(citation) for citation in answer.citations],
        "passages": [_passage_json(hit) for hit in answer.hits],
        "model": answer.model,
        "session": answer.session,
        "timings_ms": dict(answer.timings_ms),
        "unsupported": list(answer.unsupported),
    }


def hit_json(hit: Hit) -> dict[str, Any]:
    """The hit with the keys of `search --json`."""
    kind, metadata = hit.passage.kind, dict(hit.passage.metadata)
    return {"rank": hit.rank, **_passage_json(hit), "kind": kind, "metadata": metadata}


def _passage_json(hit: Hit) -> dict[str, Any]:
    passage = hit.passage
    return {
        "passage_id": passage.id,
        "source": passage.source,
        "title": passage.title,
        "text": passage.text,
        "score": float(hit.score),
    }
