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
from functools import lru_cache

LOOKAHEAD = 4
"""Where a copied run begins is settled by so many tokens, so that a stream can follow that far behind."""

_TOKEN = re.compile(r"\w+|[^\w\s]")
_NO_SPACE_BEFORE = frozenset(".,;:!?)]}%°'’”-/_")
_NO_SPACE_AFTER = frozenset("([{$£€¥“-/_")
_APOSTROPHES = frozenset("'’")
_ENDINGS = frozenset(("s", "t", "re", "ve", "ll", "d", "m"))  # of it's, don't, we're, ...
_SENTENCE_END = frozenset(".!?")
_FUNCTION_WORDS = frozenset(
    "a an and as at but by do for from have he her his how if in is it its most no not of on one or "
    "she so some such that the their then there these they this those to we what when where which "
    "while who why with yes you your".split()
)
_WITHOUT_MARKS = str.maketrans({"ø": "o", "đ": "d", "ð": "d", "ł": "l", "ı": "i", "æ": "ae", "œ": "oe"})


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
        self._seen: dict[str, list[_Word]] = {}
        for word in self._words:
            self._seen.setdefault(word.plain, []).append(word)
        self._runs = _first_places([word.plain for word in self._words])
        self._is_common = is_common
        self._usual: dict[str, str] = {}

    def restore(self, text: str) -> str:
        """Return `text` as the evidence would write it."""
        return "".join(self.pieces(text))

    def pieces(self, text: str) -> list[str]:
        """The restored text in pieces, one a token of `text`, each with the space before it.

        Piece i stays the same whatever follows token i + LOOKAHEAD. Takes time linear in the text,
        however often its words stand in the evidence.
        """
        said = list(_read(text))
        tokens = [word.plain for word in said]
        pieces: list[str] = []
        place, opens, quoted = -1, True, False
        for i, token in enumerate(tokens):
            runs_on = place >= 0 and self._plain(place + 1) == token
            place = place + 1 if runs_on else self._start(tokens[i : i + LOOKAHEAD])
            glued = self._words[place].glued if runs_on else _glued(tokens, i, quoted)
            if runs_on and opens:  # the evidence itself tells "e.g. two" from the end of a sentence
                written = self._words[place].written
            else:
                written = self._spelling(said[i], place, runs_on, tokens[i + 1 : i + 2])
                written = _capital(written) if (opens and not glued) or token == "i" else written
            pieces.append(written if glued or i == 0 else f" {written}")
            opens = token in _SENTENCE_END or (opens and not token[:1].isalnum())
            quoted ^= token == '"'
        return pieces

    def _plain(self, place: int) -> str | None:
        return self._words[place].plain if place < len(self._words) else None

    def _start(self, ahead: Sequence[str]) -> int:
        """Where the longest match of the next tokens begins, the first on a tie; -1 for nowhere."""
        for length in range(len(ahead), 0, -1):
            place = self._runs.get(tuple(ahead[:length]))
            if place is not None:
                return place
        return -1

    def _spelling(self, said: _Word, place: int, runs_on: bool, following: Sequence[str]) -> str:
        if place < 0:
            return said.written
        word = self._words[place]
        if not word.opens and (runs_on or following == [self._plain(place + 1)]):
            return word.written
        if said.plain not in self._usual:
            self._usual[said.plain] = self._usually(said.plain)
        return self._usual[said.plain]

    def _usually(self, token: str) -> str:
        """How the evidence writes a word, not counting capitals that only open a sentence."""
        seen = self._seen[token]
        inside = Counter(word.written for word in seen if not word.opens)
        if inside:
            return inside.most_common(1)[0][0]
        written = seen[0].written
        ordinary = token in _FUNCTION_WORDS or self._is_common(token)
        return written[:1].lower() + written[1:] if ordinary and written.istitle() else written


def _first_places(words: Sequence[str]) -> dict[tuple[str, ...], int]:
    """Where each run of one to LOOKAHEAD words stands first."""
    places: dict[tuple[str, ...], int] = {}
    for place in range(len(words)):
        for length in range(1, min(LOOKAHEAD, len(words) - place) + 1):
            places.setdefault(tuple(words[place : place + length]), place)
    return places


def _read(text: str) -> Iterator[_Word]:
    text = unicodedata.normalize("NFC", text)  # an accent of its own is no letter to `\w`
    opens, end = True, 0
    for match in _TOKEN.finditer(text):
        written, gap = match.group(), text[end : match.start()]
        opens = opens or "\n" in gap
        yield _Word(_plain(written), written, not gap and end > 0, opens)
        opens = written in _SENTENCE_END or (opens and not written[0].isalnum())
        end = match.end()


@lru_cache(maxsize=65_536)
def _plain(word: str) -> str:
    """The word without case and accents, as an uncased model writes it."""
    decomposed = unicodedata.normalize("NFD", word.casefold())
    letters = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
    return letters.translate(_WITHOUT_MARKS)


def _capital(word: str) -> str:
    """The word with a capital first letter; "iPhone" and "pH" are left alone."""
    first = word[:1].upper()
    return first + word[1:] if word.islower() and len(first) == 1 else word


def _glued(tokens: Sequence[str], i: int, quoted: bool) -> bool:
    """English spacing: whether token i stands without a space after the one before it."""
    if i == 0:
        return False
    before, here = tokens[i - 1], tokens[i]
    if before == '"' or here == '"':
        return quoted
    if before in _APOSTROPHES:
        return here in _NO_SPACE_BEFORE or here in _ENDINGS or (i > 1 and len(tokens[i - 2]) == 1)
    if here in _NO_SPACE_BEFORE or before in _NO_SPACE_AFTER:
        return True
    return _in_number(tokens[max(0, i - 2)], before, here)


def _in_number(first: str, mark: str, last: str) -> bool:
    """Whether three tokens are one number: 69.6, 10:30, 1,000 (but not "in 1990, 20 people")."""
    if not (first.isdigit() and last.isdigit()):
        return False
    if mark == ",":
        return len(first) <= 3 and len(last) == 3
    return mark == "." or (mark == ":" and len(last) == 2)
