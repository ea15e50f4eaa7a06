"""Attach citations in code: which sentence of which passage supports each sentence of an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rag_chat.corpus.packing import sentences
from rag_chat.types import Citation, Passage

SUPPORT = 0.6
"""Share of an answer sentence's content words that one passage sentence must hold to be cited."""

_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
_REPLY = re.compile(r"^Assistant: (.*?)(?=\n(?:User|System|Assistant): |\Z)", re.DOTALL | re.MULTILINE)
_NAME = re.compile(r"(?<=[\w,;:] )[A-Z]\w+")  # a capital inside a sentence
_STOP = frozenset(
    "a about after all also an and any are as at be because been but by can could did do does for from "
    "had has have he her his how i if in into is it its may more most not of on one or other our over "
    "she so some such than that the their them then there these they this those to up usually was we "
    "were what when where which while who why will with would yes you your no".split()
)


def cite(answer: str, passages: Sequence[Passage], *, question: str = "") -> tuple[Citation, ...]:
    """Return at most one citation for each sentence of the answer, in their order.

    A sentence is supported by the passage sentence (or two neighbours) that holds most of its content
    words, by stem; every number and name in it must be there too. A document that supports it is cited before
    any conversation that does. A sentence without support gets none. An answer of one word or none
    ("Yes.") is looked up together with the question's words.
    """
    units = [unit for passage in passages for unit in _units(passage)]
    found: list[Citation] = []
    for start, end in sentences(answer, 0, len(answer)):
        best = _best(answer[start:end], question, units)
        if best is not None and not any(_same_span(best, other) for other in found):
            found.append(best)
    return tuple(found)


def quotable(passage: Passage) -> list[list[tuple[int, int]]]:
    """Spans of passage.text that hold one sentence each, neighbours together.

    Of a dialogue only what the assistant replied: a user's question supports nothing.
    """
    text = passage.text
    blocks = [(0, len(text))]
    if passage.kind == "dialogue":
        blocks = [match.span(1) for match in _REPLY.finditer(text)] or blocks
    return [_split(text, start, end) for start, end in blocks]


def _split(text: str, start: int, end: int) -> list[tuple[int, int]]:
    trimmed = [_trim(text, *span) for span in sentences(text, start, end)]
    return [(first, last) for first, last in trimmed if first < last]


@dataclass(frozen=True, slots=True)
class _Unit:
    passage: Passage
    start: int
    end: int
    stems: frozenset[str]
    single: bool


def _units(passage: Passage) -> Iterator[_Unit]:
    """Single sentences of a passage, then pairs of neighbours, with the headings' words in reach."""
    head = _stems(f"{passage.title} {passage.context}") if passage.kind == "topic" else frozenset()
    for spans in quotable(passage):
        for width in (1, 2):
            for first in range(len(spans) - width + 1):
                start, end = spans[first][0], spans[first + width - 1][1]
                stems = _stems(passage.text[start:end]) | head
                yield _Unit(passage, start, end, stems, width == 1)


def _best(sentence: str, question: str, units: Sequence[_Unit]) -> Citation | None:
    wanted = _stems(sentence)
    needed = {stem for stem in wanted if stem[0].isdigit()} | _stems(" ".join(_NAME.findall(sentence)))
    if len(wanted) < 2:
        needed, wanted = set(wanted), wanted | _stems(question)
    if len(wanted) < 2:
        return None
    scored = [
        (unit.passage.kind == "topic", len(wanted & unit.stems) / len(wanted), unit.single, -place)
        for place, unit in enumerate(units)
        if needed <= unit.stems
    ]
    supported = [score for score in scored if score[1] >= SUPPORT]
    if not supported:
        return None
    _, support, _, place = max(supported)
    return _citation(units[-place], support)


def _citation(unit: _Unit, support: float) -> Citation:
    passage = unit.passage
    return Citation(
        passage_id=passage.id,
        source=passage.source,
        title=passage.title,
        quote=passage.text[unit.start : unit.end],
        start=passage.start + unit.start,
        end=passage.start + unit.end,
        score=round(support, 4),
    )


def _same_span(one: Citation, other: Citation) -> bool:
    return (one.passage_id, one.start, one.end) == (other.passage_id, other.start, other.end)


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    inner = text[start:end]
    return start + len(inner) - len(inner.lstrip()), end - len(inner) + len(inner.rstrip())


def _stems(text: str) -> frozenset[str]:
    """Content words, lower-case, cut to a crude stem: enough to match "boiled" with "boiling"."""
    return frozenset(_stem(word) for word in _WORD.findall(text.lower()) if word not in _STOP)


def _stem(word: str) -> str:
    if word[0].isdigit():
        return word.replace(",", "") if _THOUSANDS.fullmatch(word) else word
    if len(word) < 5:
        return word
    for ending in ("ingly", "edly", "ing", "ies", "ied", "ed", "es", "ly", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word
