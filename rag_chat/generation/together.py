"""Stream many answers at once, from whatever generator there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from rag_chat.types import Generated, Generator, Turn

Said = Iterator[tuple[int, str | Generated]]
"""Pieces with the number of their turn; the whole of what was generated ends each answer."""


@runtime_checkable
class StreamsTogether(Protocol):
    """A generator that can also stream many answers as one batch."""

    def stream_many(self, turns: Sequence[Turn], wanted: Callable[[int], bool]) -> Said:
        """Yield pieces of all answers as they come; a turn that is no longer wanted is given up."""
        ...


def stream_together(generator: Generator, turns: Sequence[Turn], wanted: Callable[[int], bool]) -> Said:
    """Yield pieces of all answers as they come; a turn that is not `wanted` any more is given up.

    A generator that cannot stream a batch answers one turn piece by piece, and many each in one piece.
    """
    if isinstance(generator, StreamsTogether):
        yield from generator.stream_many(turns, wanted)
    elif len(turns) == 1:
        text = ""
        for piece in generator.stream(turns[0]):
            if not wanted(0):
                return
            text += piece
            yield 0, piece
        yield 0, Generated(text)
    elif turns:
        for i, said in enumerate(generator.generate(turns)):
            yield i, said.text
            yield i, said
