"""An answer that grows, told in pieces that are never taken back."""

from __future__ import annotations

from typing import Protocol

from rag_chat.generation.prompt import UNANSWERABLE
from rag_chat.generation.surface import LOOKAHEAD, Surface


class Pieces(Protocol):
    """Tells what is settled of an answer to one turn, each part of it once."""

    def more(self, text: str) -> list[str]:
        """The pieces that became settled, now that so much has been said."""
        ...

    def rest(self, text: str) -> list[str]:
        """The pieces that were not told yet, now that all has been said."""
        ...


class WordPieces:
    """Two words behind, since a tokenizer may yet join them ("it 's")."""

    def __init__(self) -> None:
        self._told = 0

    def more(self, text: str) -> list[str]:
        """See Pieces."""
        return self._tell(text, text.rfind(" ", 0, max(0, text.rfind(" "))))

    def rest(self, text: str) -> list[str]:
        """See Pieces."""
        return self._tell(text, len(text))

    def _tell(self, text: str, end: int) -> list[str]:
        piece = text[self._told : max(end, 0)]
        self._told += len(piece)
        return [piece] if piece else []


class SurfacePieces:
    """As the evidence would write it; what is yet to come can change the last few tokens."""

    def __init__(self, surface: Surface) -> None:
        self._surface = surface
        self._told = 0

    def more(self, text: str) -> list[str]:
        """See Pieces."""
        pieces = written(self._surface, text)
        return self._tell(pieces, len(pieces) - LOOKAHEAD - 1)

    def rest(self, text: str) -> list[str]:
        """See Pieces."""
        pieces = written(self._surface, text)
        return self._tell(pieces, len(pieces))

    def _tell(self, pieces: list[str], end: int) -> list[str]:
        told = pieces[self._told : max(end, 0)]
        self._told += len(told)
        return told


def written(surface: Surface, said: str) -> list[str]:
    """The answer as the evidence would write it; the word for "no answer" stays as others look for it."""
    return [said] if said == UNANSWERABLE else surface.pieces(said)
