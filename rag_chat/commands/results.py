"""Answers and hits as people read them: text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rag_chat.commands.printing import clean, one_line, say

if TYPE_CHECKING:
    from rag_chat.types import Answer, Hit

WIDTH = 96


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
    elif answer.unsupported:
        say(f"(No passage supports: {one_line(' '.join(answer.unsupported))})")


def say_hits(hits: Sequence[Hit]) -> None:
    """Print passages with their score and their text."""
    for hit in hits:
        say(f"{hit.rank}. {_place(hit.passage.title, hit.passage.source)}  {hit.score:.4g}")
        for paragraph in clean(hit.passage.text).splitlines():
            say(textwrap.fill(paragraph, WIDTH, initial_indent="   ", subsequent_indent="   "))


def say_trace(trace: Mapping[str, Any]) -> None:
    """Print how a turn was answered, from what its session keeps."""
    for query in trace.get("queries") or [{"text": trace["query"], "weight": 1.0}]:
        say(f"searched for: {one_line(query['text'])}{_weight(query['weight'])}")
    for rank, hit in enumerate(trace["hits"], 1):
        parts = [f"{name} {hit[name]:.3f}" for name in ("dense", "lexical") if hit[name] is not None]
        say(f"  {rank}. {hit['score']:.4g} {_place(hit['title'], hit['source'])} {' '.join(parts)}")
    took = ", ".join(f"{name} {ms:.0f} ms" for name, ms in trace["timings_ms"].items())
    say(f"model: {trace['model']} ({took})")
    if trace.get("confidence") is not None:
        say(f"confidence: {trace['confidence']:.0%}")
    say("prompt as sent:")
    say(textwrap.indent(clean(trace["prompt"]), "  | "))
    for dropped in trace["dropped"]:
        say(f"left out: {dropped}")
    for name, value in trace.get("hashes", {}).items():
        say(f"{name} sha256: {value}")
    if trace["reason"]:
        say(f"note: {trace['reason']}")


def _weight(weight: float) -> str:
    return f"  (weight {weight:.2f})" if weight < 1 else ""


def _place(title: str, source: str) -> str:
    return f"{one_line(title)} ({one_line(source)})" if title else one_line(source)
