"""Hold an answer that was kept against the same question answered again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rag_chat.types import Answer

Difference = tuple[str, Any, Any]
"""What differs, as it was kept, and as it is now."""


def differences(kept: Mapping[str, Any], answer: Answer) -> list[Difference]:
    """What differs between a trace (see `SessionStore.traces`) and an answer; nothing: it was reproduced.

    Causes come before what they lead to: the model, the queries, the passages, the prompt, and the answer.
    """
    return [(name, old, new) for name, old, new in _compared(kept, answer) if old != new]


def _compared(kept: Mapping[str, Any], answer: Answer) -> Iterator[Difference]:
    hashes = kept["hashes"]
    yield "model", kept["model"], answer.model
    yield "weights", hashes["model"], answer.hashes["model"]
    yield "queries", [q["text"] for q in kept["queries"]], [query.text for query in answer.queries]
    yield "passages", [h["passage_id"] for h in kept["hits"]], [hit.passage.id for hit in answer.hits]
    yield "text of the passages", hashes["passages"], answer.hashes["passages"]
    yield "prompt", hashes["prompt"], answer.hashes["prompt"]
    yield "abstained", kept["abstained"], answer.abstained
    yield "answer", kept["answer"], answer.text
    cited = [citation["quote"] for citation in kept["citations"]]
    yield "citations", cited, [citation.quote for citation in answer.citations]
