"""Attach citations in code: which sentence of which passage supports each sentence of an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rag_chat.corpus.packing import sentences
from rag_chat.types import Citation, Embedder, Passage

SUPPORT = 0.6
"""Share of an answer sentence's content words that one passage sentence must hold to be cited."""

LIKELY, SAME_MEANING = 0.4, 0.8
"""With at least the first share of the words, a passage sentence of this cosine is a paraphrase."""

TOGETHER, PART = 0.75, 2
"""Two sentences support a third together with this share of its words, each with so many of its own."""

COMPARED = 4  # embedding more would take longer than answering

_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
_REPLY = re.compile(r"^Assistant: (.*?)(?=\n(?:User|System|Assistant): |\Z)", re.DOTALL | re.MULTILINE)
_NAME = re.compile(r"(?<=[\w,;:] )[A-Z]\w+")  # a capital inside a sentence
_NUMBERS = dict(
    zip("two three four five six seven eight nine ten eleven twelve".split(), range(2, 13), strict=True)
)
_NOT = re.compile(r"\b(?:not?|never|none|without)\b|n't\b", re.IGNORECASE)
_STOP = frozenset(
    "a about after all also an and any are as at be because been but by can could did do does for from "
    "had has have he her his how i if in into is it its may more most not of on one or other our over "
    "she so some such than that the their them then there these they this those to up usually was we "
    "were what when where which while who why will with would yes you your no".split()
)


@dataclass(frozen=True, slots=True)
class Support:
    """What the passages say about an answer: citations in the order of its sentences, and the rest.

    `unsupported` are the sentences that claim what no passage holds; a question or "Yes!" claims nothing.
    """

    citations: tuple[Citation, ...] = ()
    unsupported: tuple[str, ...] = ()


def find_support(
    answer: str,
    passages: Sequence[Passage],
    *,
    question: str = "",
    embedder: Embedder | None = None,
    attention: Sequence[float] = (),
) -> Support:
    """Match each sentence of an answer with the passage sentences (or two neighbours) that support it.

    A sentence is supported by the span that holds most of its content words, by stem; every number and
    name in it must be there too. What holds fewer of its words must agree in meaning (by `embedder`), and
    a sentence that says two things may need a span for each. A document is cited before any
    conversation. Among equals the passage that the model attended to more is cited (`attention`: a
    share for each passage). An answer of one word or none ("Yes.") is looked up with the question's words.
    """
    shares = dict(zip((passage.id for passage in passages), attention, strict=False))
    matcher = _Matcher([unit for passage in passages for unit in _units(passage)], embedder, shares)
    found: list[Citation] = []
    unsupported = []
    for start, end in sentences(answer, 0, len(answer)):
        sentence = answer[start:end].strip()
        cited = matcher.match(sentence, question)
        found += [one for one in cited if not any(_same_span(one, other) for other in found)]
        if not cited and _stems(sentence) and not sentence.endswith("?"):
            unsupported.append(sentence)
    return Support(tuple(found), tuple(unsupported))


def cite(answer: str, passages: Sequence[Passage], *, question: str = "") -> tuple[Citation, ...]:
    """The citations of `find_support` by words alone."""
    return find_support(answer, passages, question=question).citations


def coverage(text: str, passage: Passage) -> float:
    """The share of a text's content words, by stem, that a passage or its headings hold; 0 for none."""
    wanted = _stems(text)
    held = _stems(f"{passage.title} {passage.context} {passage.text}")
    return len(wanted & held) / len(wanted) if wanted else 0.0


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

    @property
    def text(self) -> str:
        return self.passage.text[self.start : self.end]


def _units(passage: Passage) -> Iterator[_Unit]:
    """Single sentences of a passage, then pairs of neighbours, with the headings' words in reach."""
    head = _stems(f"{passage.title} {passage.context}") if passage.kind == "topic" else frozenset()
    for spans in quotable(passage):
        for width in (1, 2):
            for first in range(len(spans) - width + 1):
                start, end = spans[first][0], spans[first + width - 1][1]
                stems = _stems(passage.text[start:end]) | head
                yield _Unit(passage, start, end, stems, width == 1)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A sentence as it is looked for: its content words, and those that a span must hold."""

    text: str
    stems: frozenset[str]
    needed: frozenset[str]

    def coverage(self, stems: frozenset[str]) -> float:
        return len(self.stems & stems) / len(self.stems)


class _Matcher:
    def __init__(
        self, units: Sequence[_Unit], embedder: Embedder | None, shares: Mapping[str, float]
    ) -> None:
        self._units = units
        self._embedder = embedder
        self._shares = shares

    def match(self, sentence: str, question: str) -> list[Citation]:
        """The spans that support a sentence: one, or two that do together, or none."""
        wanted = _wanted(sentence, question)
        if wanted is None:
            return []
        fit = [unit for unit in self._units if wanted.needed <= unit.stems]
        supported = [unit for unit in fit if wanted.coverage(unit.stems) >= SUPPORT]
        if supported:
            best = max(supported, key=lambda unit: self._rank(unit, wanted))
            return [_citation(best, wanted.coverage(best.stems))]
        return self._by_meaning(fit, wanted) or self._together(wanted)

    def _rank(self, unit: _Unit, wanted: _Wanted) -> tuple[bool, float, float, bool]:
        """Best is largest; of equals `max` takes the first."""
        share = self._shares.get(unit.passage.id, 0.0)
        return unit.passage.kind == "topic", wanted.coverage(unit.stems), share, unit.single

    def _by_meaning(self, fit: Sequence[_Unit], wanted: _Wanted) -> list[Citation]:
        """A span with fewer of the words that says the same: a paraphrase."""
        denied = bool(_NOT.search(wanted.text))
        likely = [
            unit
            for unit in fit
            if wanted.coverage(unit.stems) >= LIKELY and bool(_NOT.search(unit.text)) == denied
        ]
        likely = sorted(likely, key=lambda unit: self._rank(unit, wanted), reverse=True)[:COMPARED]
        if not likely or self._embedder is None:
            return []
        said, *spans = self._embedder.embed([wanted.text, *(unit.text for unit in likely)])
        cosines = [float(span @ said) for span in spans]
        best = max(range(len(likely)), key=cosines.__getitem__)
        return [_citation(likely[best], min(1.0, cosines[best]))] if cosines[best] >= SAME_MEANING else []

    def _together(self, wanted: _Wanted) -> list[Citation]:
        """Two sentences that hold most of the words together, each a good part of them."""
        single = [unit for unit in self._units if unit.single]
        first = max(single, key=lambda unit: self._rank(unit, wanted), default=None)
        if first is None:
            return []
        left = _Wanted(wanted.text, wanted.stems - first.stems, wanted.needed - first.stems)
        rest = [u for u in single if left.needed <= u.stems and len(left.stems & u.stems) >= PART]
        second = max(rest, key=lambda unit: self._rank(unit, left), default=None)
        if second is None or len(wanted.stems & (first.stems - second.stems)) < PART:
            return []
        support = wanted.coverage(first.stems | second.stems)
        return [_citation(unit, support) for unit in (first, second)] if support >= TOGETHER else []


def _wanted(sentence: str, question: str) -> _Wanted | None:
    """What to look for; None when the sentence says too little to be held against anything."""
    stems = _stems(sentence)
    needed = {stem for stem in stems if stem[0].isdigit()} | _stems(" ".join(_NAME.findall(sentence)))
    if len(stems) < 2:
        needed, stems = set(stems), stems | _stems(question)
    return _Wanted(sentence, stems, frozenset(needed)) if len(stems) >= 2 else None


def _citation(unit: _Unit, support: float) -> Citation:
    passage = unit.passage
    return Citation(
        passage_id=passage.id,
        source=passage.source,
        title=passage.title,
        quote=unit.text,
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
    if word in _NUMBERS:
        return str(_NUMBERS[word])
    if word[0].isdigit():
        return word.replace(",", "") if _THOUSANDS.fullmatch(word) else word
    if len(word) < 5:
        return word
    for ending in ("ingly", "edly", "ing", "ies", "ied", "ed", "es", "ly", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word
