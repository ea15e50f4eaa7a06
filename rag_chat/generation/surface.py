"""Give an uncased model's words back the spelling, case and spacing they have in the evidence.

The packaged reader has BERT's lower-case vocabulary without accents. What it says is mostly copied from
its passages, so its words are aligned with them and taken over as they are written there ("tromso" ->
"Tromsø", "3 . 5 c" -> "3.5 C"); what is found nowhere follows plain English rules.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

LOOKAHEAD = 4
"""Where a copied run begins is settled by so many tokens, so that a stream can follow that far behind."""

_TOKEN = re.compile(r"\w+|[^\w\s]")
_NO_SPACE_BEFORE = frozenset(".,;:!?)]}%°'’-/")
_NO_SPACE_AFTER = frozenset("([{$£€'’-/")
_SENTENCE_END = frozenset(".!?")
_FUNCTION_WORDS = frozenset(
    "a an and as at but by do for from have he her his how if in is it its most no not of on one or "
    "she so some such that the their then there these they this those to we what when where which "
    "while who why with yes you your".split()
)


@dataclass(frozen=True, slots=True)
class _Word:
    plain: str
    written: str
    glued: bool  # no space before it
    opens: bool  # first word of a sentence


class Surface:
    """Restores texts from the words of some evidence.

    sources: texts to copy from, best first. `is_common` says whether a lower-case word is an ordinary
    one; a capitalised word seen only at the start of a sentence keeps its capital when it is not.
    """

    def __init__(self, sources: Sequence[str], is_common: Callable[[str], bool] = lambda _: True) -> None:
        self._words = [word for source in sources for word in _read(source)]
        self._places: dict[str, list[int]] = {}
        for place, word in enumerate(self._words):
            self._places.setdefault(word.plain, []).append(place)
        self._is_common = is_common

    def restore(self, text: str) -> str:
        """Return `text` as the evidence would write it."""
        return "".join(self.pieces(text))

    def pieces(self, text: str) -> list[str]:
        """The restored text in pieces, one a token of `text`, each with the space before it.

        Piece i stays the same whatever follows token i + LOOKAHEAD.
        """
        tokens = [word.plain for word in _read(text)]
        pieces: list[str] = []
        place = -1
        for i, token in enumerate(tokens):
            runs_on = place >= 0 and self._plain(place + 1) == token
            place = place + 1 if runs_on else self._start(tokens[i : i + LOOKAHEAD])
            opens = i == 0 or tokens[i - 1] in _SENTENCE_END and not pieces[-1][-1:].isdigit()
            written = self._spelling(token, place, runs_on, tokens[i + 1 : i + 2])
            if opens or token == "i":
                written = written[:1].upper() + written[1:]
            glued = self._words[place].glued if runs_on else _glued(tokens, i)
            pieces.append(written if glued or i == 0 else f" {written}")
        return pieces

    def _plain(self, place: int) -> str | None:
        return self._words[place].plain if place < len(self._words) else None

    def _start(self, ahead: Sequence[str]) -> int:
        """Where the longest match of the next tokens begins, the first on a tie; -1 for nowhere."""
        best, longest = -1, 0
        for place in self._places.get(ahead[0], ()):
            length = 1
            while length < len(ahead) and self._plain(place + length) == ahead[length]:
                length += 1
            if length > longest:
                best, longest = place, length
        return best

    def _spelling(self, token: str, place: int, runs_on: bool, following: Sequence[str]) -> str:
        if place < 0:
            return token
        word = self._words[place]
        if not word.opens and (runs_on or following == [self._plain(place + 1)]):
            return word.written
        return self._usual(token)

    def _usual(self, token: str) -> str:
        """How the evidence writes a word, not counting capitals that only open a sentence."""
        seen = [self._words[place] for place in self._places[token]]
        inside = Counter(word.written for word in seen if not word.opens)
        if inside:
            return inside.most_common(1)[0][0]
        written = seen[0].written
        ordinary = token in _FUNCTION_WORDS or self._is_common(token)
        return written[:1].lower() + written[1:] if ordinary and written.istitle() else written


def _read(text: str) -> Iterator[_Word]:
    opens, end = True, 0
    for match in _TOKEN.finditer(text):
        written, gap = match.group(), text[end : match.start()]
        opens = opens or "\n" in gap
        yield _Word(_plain(written), written, not gap and end > 0, opens)
        opens = written in _SENTENCE_END or (opens and not written[0].isalnum())
        end = match.end()


def _plain(word: str) -> str:
    decomposed = unicodedata.normalize("NFD", word.lower())
    return "".join(c for c in decomposed if unicodedata.category(c) != "Mn")


def _glued(tokens: Sequence[str], i: int) -> bool:
    """English spacing: whether token i stands without a space after the one before it."""
    if i == 0:
        return True
    before, here = tokens[i - 1], tokens[i]
    if here in _NO_SPACE_BEFORE or before in _NO_SPACE_AFTER:
        return True
    number = i > 1 and tokens[i - 2].isdigit() and here.isdigit()
    return before in ".,:" and number
