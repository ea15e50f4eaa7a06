"""Answers and hits as other programs read them (JSON) and as people do (text)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rag_chat.commands.printing import clean, one_line, say

if TYPE_CHECKING:
    from rag_chat.types import Answer, Hit

WIDTH = 96


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


def say_answer(answer: Answer) -> None:
    """Print the text, then what `say_support` prints."""
    say(answer.text)
    say_support(answer)


def say_support(answer: Answer) -> None:
    """Print where an answer comes from, or why there is no source."""
    if answer.citations:
        say()
    for number, cited in enumerate(answer.citations, 1):
        say(f'[{number}] {_place(cited.title, cited.source)}: "{one_line(cited.quote)}"')
    if answer.reason:
        say(f"({answer.reason})")


def say_hits(hits: Sequence[Hit]) -> None:
    """Print passages with their score and their text."""
    for hit in hits:
        say(f"{hit.rank}. {_place(hit.passage.title, hit.passage.source)}  {hit.score:.4g}")
        for paragraph in clean(hit.passage.text).splitlines():
            say(textwrap.fill(paragraph, WIDTH, initial_indent="   ", subsequent_indent="   "))


def say_trace(trace: Mapping[str, Any]) -> None:
    """Print how a turn was answered, from what its session keeps."""
    say(f"searched for: {one_line(trace['query'])}")
    for rank, hit in enumerate(trace["hits"], 1):
        parts = [f"{name} {hit[name]:.3f}" for name in ("dense", "lexical") if hit[name] is not None]
        say(f"  {rank}. {hit['score']:.4g} {_place(hit['title'], hit['source'])} {' '.join(parts)}")
    took = ", ".join(f"{name} {ms:.0f} ms" for name, ms in trace["timings_ms"].items())
    say(f"model: {trace['model']} ({took})")
    for dropped in trace["dropped"]:
        say(f"left out: {dropped}")
    if trace["reason"]:
        say(f"note: {trace['reason']}")


def _place(title: str, source: str) -> str:
    return f"{one_line(title)} ({one_line(source)})" if title else one_line(source)
