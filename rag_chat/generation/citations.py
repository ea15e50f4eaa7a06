"""Attach citations in code: which sentence of which passage supports each sentence of an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rag_chat.corpus.packing import sentences
from rag_chat.types import Citation, Passage

SUPPORT = 0.6
"""Share of an answer sentence's content words that one passage sentence must hold to be cited."""

_WORD = re.compile(r"\w+")
_STOP = frozenset(
    "a about after all also an and any are as at be because been but by can could did do does for from "
    "had has have he her his how i if in into is it its may more most not of on one or other our over "
    "she so some such than that the their them then there these they this those to up usually was we "
    "were what when where which while who why will with would yes you your no".split()
)


def cite(answer: str, passages: Sequence[Passage]) -> tuple[Citation, ...]:
    """Return at most one citation for each sentence of the answer, best support first on a tie.

    A sentence is supported by the passage sentence (or two neighbours) that holds most of its content
    words, by stem; every number it names must be there too. A sentence without support gets none.
    """
    units = [unit for passage in passages for unit in _units(passage)]
    found: list[Citation] = []
    for start, end in sentences(answer, 0, len(answer)):
        best = _best(answer[start:end], units)
        if best is not None and best not in found:
            found.append(best)
    return tuple(found)


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
    spans = [_trim(passage.text, *span) for span in sentences(passage.text, 0, len(passage.text))]
    spans = [(start, end) for start, end in spans if start < end]
    for width in (1, 2):
        for first in range(len(spans) - width + 1):
            start, end = spans[first][0], spans[first + width - 1][1]
            stems = _stems(passage.text[start:end]) | head
            yield _Unit(passage, start, end, stems, width == 1)


def _best(sentence: str, units: Sequence[_Unit]) -> Citation | None:
    wanted = _stems(sentence)
    if len(wanted) < 2:
        return None
    numbers = {stem for stem in wanted if stem[0].isdigit()}
    scored = [
        (len(wanted & unit.stems) / len(wanted), unit.single, -place)
        for place, unit in enumerate(units)
        if numbers <= unit.stems
    ]
    support, _, place = max(scored, default=(0.0, False, 0))
    return _citation(units[-place], support) if support >= SUPPORT else None


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


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    inner = text[start:end]
    return start + len(inner) - len(inner.lstrip()), end - len(inner) + len(inner.rstrip())


def _stems(text: str) -> frozenset[str]:
    """Content words, lower-case, cut to a crude stem: enough to match "boiled" with "boiling"."""
    return frozenset(_stem(word) for word in _WORD.findall(text.lower()) if word not in _STOP)


def _stem(word: str) -> str:
    if word[0].isdigit() or len(word) < 5:
        return word
    for ending in ("ingly", "edly", "ing", "ies", "ied", "ed", "es", "ly", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word
