"""Sentences packed into a token budget: where the passages of a document begin and end."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from rag_chat.corpus.markdown import Line, lines_of

TokenSpans = Callable[[str], Sequence[tuple[int, int]]]
"""Returns the character spans of the tokens of a text, in order."""

Span = tuple[int, int]

# A sentence ends at . ! ? with white space behind it, unless the next word begins small ("approx.
# two") or one letter or a title stands before the stop ("J. Smith", "Dr. Who"); it ends at a
# full-width stop (Chinese, Japanese) and before a list item.
SENTENCE_END = re.compile(
    r"(?<!\b[A-Z]\.)(?<!\b(?:Mr|Dr|St)\.)(?<!\bMrs\.)(?<=[.!?…])[\"')\]\u201d\u2019\xbb]*\s+(?![a-z])"
    r"|(?<=[\u3002\uff01\uff1f])"
    r"|\n(?=[ \t]*(?:[-*+]|\d{1,3}[.)])[ \t])"
)
WORD_ENDS = " \n\t\u3000"


@dataclass(frozen=True, slots=True)
class Unit:
    """A sentence, or a part of one that is too long: text[start:end] within the budget.

    `ends_paragraph` says that a blank line follows.
    """

    start: int
    end: int
    tokens: int
    ends_paragraph: bool = False


@dataclass(slots=True)
class Section:
    """What stands under one heading: the headings above it and its paragraphs."""

    headings: tuple[str, ...]
    paragraphs: list[list[Span]] = field(default_factory=list)


def sections(text: str) -> Iterator[Section]:
    """Yield the sections of a text, those without a paragraph left out."""
    levels: list[tuple[int, str]] = []
    section = Section(())
    for kind, group in itertools.groupby(lines_of(text), lambda line: _kind(text, line)):
        lines = list(group)
        if kind == "prose":
            section.paragraphs.append(sentences(text, lines[0].start, lines[-1].end))
        elif kind == "code":
            section.paragraphs.append([(line.start, line.end) for line in lines])
        elif kind == "heading":
            if section.paragraphs:
                yield section
            for line in lines:
                levels = [above for above in levels if above[0] < line.level]
                levels.append((line.level, line.title))
            section = Section(tuple(title for _, title in levels))
    if section.paragraphs:
        yield section


def _kind(text: str, line: Line) -> str:
    if line.level:
        return "heading"
    if line.code:
        return "code"
    return "blank" if text[line.start : line.end].isspace() else "prose"


def sentences(text: str, start: int, end: int) -> list[Span]:
    """Return the spans of the sentences of text[start:end]; together they cover it."""
    ends = [match.end() for match in SENTENCE_END.finditer(text, start, end)]
    return list(itertools.pairwise([start, *(cut for cut in ends if start < cut < end), end]))


class Budget:
    """What fits into `limit` tokens of one text, by the tokens the very span has on its own."""

    def __init__(self, text: str, token_spans: TokenSpans, limit: int) -> None:
        self.text = text
        self.token_spans = token_spans
        self.limit = limit

    def count(self, start: int, end: int) -> int:
        """Return the number of tokens of text[start:end] on its own."""
        return len(self.token_spans(self.text[start:end]))

    def units(self, paragraph: Sequence[Span]) -> list[Unit]:
        """Return the units of a paragraph: its sentences, those that do not fit cut up."""
        units = [unit for start, end in paragraph for unit in self._pieces(start, end)]
        return [*units[:-1], replace(units[-1], ends_paragraph=True)] if units else []

    def reach(self, units: Sequence[Unit], first: int) -> int:
        """Return the largest `stop` for which units[first:stop] fit; one unit always does."""
        tokens, stop = 0, first
        while stop < len(units) and tokens + units[stop].tokens <= self.limit:
            tokens += units[stop].tokens
            stop += 1
        while stop > first + 1 and self.count(units[first].start, units[stop - 1].end) > self.limit:
            stop -= 1  # a tokenizer may see more in the whole than in its parts
        return max(stop, first + 1)

    def _pieces(self, start: int, end: int) -> Iterator[Unit]:
        start, end = self._stripped(start, end)
        tokens = self.token_spans(self.text[start:end])
        if start < end and len(tokens) <= self.limit:
            yield Unit(start, end, len(tokens))
            return
        begins = [start + begin for begin, _ in tokens]
        while start < end:
            last = bisect_left(begins, start) + self.limit
            cut = self._cut(start, begins[last], end) if last < len(begins) else end
            piece = self._stripped(start, self._shrunk(start, cut))
            yield Unit(*piece, self.count(*piece))
            start, _ = self._stripped(max(piece[1], start + 1), end)

    def _cut(self, start: int, cut: int, end: int) -> int:
        """Return the last beginning of a word in text[start:cut + 1], or else `cut`."""
        if cut < end and not self.text[cut].isspace():
            space = max(self.text.rfind(mark, start, cut) for mark in WORD_ENDS)
            return space if space > start else cut
        return cut

    def _shrunk(self, start: int, end: int) -> int:
        """Return `end`, or less where text[start:end] has more tokens than in its sentence."""
        while end - start > 1:
            tokens = self.token_spans(self.text[start:end])
            if len(tokens) <= self.limit:
                break
            end = max(start + 1, min(start + tokens[self.limit][0], end - 1))
        return max(end, start + 1)

    def _stripped(self, start: int, end: int) -> Span:
        piece = self.text[start:end]
        return end - len(piece.lstrip()), start + len(piece.rstrip())


def pack(units: Sequence[Unit], budget: Budget, overlap: int) -> Iterator[Span]:
    """Yield the spans of the passages that the units of one section make."""
    before, fresh = 0, 0  # where the last passage began, and the first unit not yet in a passage
    while fresh < len(units):
        first = _begin(units, before, fresh, budget, overlap)
        stop = _stop(units, first, fresh, budget)
        yield units[first].start, units[stop - 1].end
        before, fresh = first, stop


def _begin(units: Sequence[Unit], before: int, fresh: int, budget: Budget, overlap: int) -> int:
    """Go back from `fresh` by the overlap, but not where that costs room the new units need."""
    first, tokens = fresh, 0
    while first - 1 > before and tokens + units[first - 1].tokens <= overlap:
        first -= 1
        tokens += units[first].tokens
    finishes = budget.reach(units, fresh) == len(units)  # then no tiny passage shall be left over
    needed = len(units) if finishes else fresh + 1
    while first < fresh and budget.reach(units, first) < needed:
        first += 1
    return first


def _stop(units: Sequence[Unit], first: int, fresh: int, budget: Budget) -> int:
    """Return where a passage ends: as far as it goes, or at a paragraph once it is half full."""
    stop = budget.reach(units, first)
    if stop == len(units):
        return stop
    for end in range(stop, fresh, -1):
        tokens = sum(unit.tokens for unit in units[first:end])
        if units[end - 1].ends_paragraph and tokens >= budget.limit / 2:
            return end
    return stop
