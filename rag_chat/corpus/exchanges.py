"""The exchanges of a dialogue: a question and its reply, tiny ones joined to a neighbour."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rag_chat.types import Message

TINY = 4  # words; an exchange with fewer on both sides is a greeting or an "ok"
# A character of Chinese or Japanese counts as a word.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")


@dataclass(frozen=True, slots=True)
class Exchange:
    """The messages first..last of a dialogue: user turns and the reply; `asked` are the user's."""

    first: int
    last: int
    asked: tuple[int, ...]


def _exchanges(messages: Sequence[Message]) -> Iterator[Exchange]:
    asked: list[int] = []
    last = -1  # the last reply to them
    for i, message in enumerate(messages):
        if message.role == "user":
            if last >= 0:
                yield Exchange(asked[0], last, tuple(asked))
                asked, last = [], -1
            asked.append(i)
        elif message.role == "assistant" and asked:
            last = i
    if last >= 0:
        yield Exchange(asked[0], last, tuple(asked))


def exchanges_of(messages: Sequence[Message]) -> list[Exchange]:
    """Return the exchanges that become passages, tiny ones joined to a neighbour."""
    kept: list[Exchange] = []
    tiny: Exchange | None = None  # tiny ones that wait for the next exchange
    for exchange in _exchanges(messages):
        if any(message.abstained for message in messages[exchange.first : exchange.last + 1]):
            _place(tiny, kept, messages)
            tiny = None
            continue
        whole = replace(exchange, first=tiny.first) if tiny else exchange
        if _is_tiny(exchange, messages):
            tiny = whole
        else:
            kept.append(whole)
            tiny = None
    _place(tiny, kept, messages)
    return kept


def _place(tiny: Exchange | None, kept: list[Exchange], messages: Sequence[Message]) -> None:
    """Join tiny exchanges that none follows to the last passage, or keep them if they say much."""
    if tiny is None:
        return
    between = messages[kept[-1].last + 1 : tiny.first] if kept else ()
    if kept and all(message.role == "system" for message in between):
        kept[-1] = replace(kept[-1], last=tiny.last)
        return
    said = messages[tiny.first : tiny.last + 1]
    turns = sum(message.role == "user" for message in said)
    if sum(_words(message.content) for message in said) >= TINY * turns:
        kept.append(tiny)  # "What is AI?", "Artificial intelligence."


def _is_tiny(exchange: Exchange, messages: Sequence[Message]) -> bool:
    words = {"user": 0, "assistant": 0, "system": 0}
    for message in messages[exchange.first : exchange.last + 1]:
        words[message.role] += _words(message.content)
    return words["user"] < TINY and words["assistant"] < TINY


def _words(text: str) -> int:
    return len(WORD.findall(text))
