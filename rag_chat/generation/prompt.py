"""The one function that builds the model's input, for training, evaluation and serving alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rag_chat.config import Skill
from rag_chat.types import Message, Passage, Prompt, Turn

PROMPT_VERSION = 1
"""Stored in every checkpoint; a checkpoint trained on another version is refused on load."""

UNANSWERABLE = "unanswerable"
"""What the model is trained to say when the passages do not hold the answer."""

ANSWERABLE = "answerable"
"""What it says, asked for no more than that, when they do."""

_TASKS: dict[Skill, str] = {"answer": "question", "rewrite": "rewrite", "unanswerable": "answerable"}

CountTokens = Callable[[str], int]


def pack(turn: Turn, *, budget: int, count_tokens: CountTokens, skill: Skill = "answer") -> Prompt:
    """Write a turn as model input of at most `budget` tokens, and say what was left out.

    The first word tells the model what to do. "answer": answer from the passages, or say UNANSWERABLE;
    "rewrite": say the question so that it stands alone, from the history and no passage; "unanswerable":
    say whether the passages hold the answer, ANSWERABLE or UNANSWERABLE.

    What matters most is kept longest: the question, the passages best first, then the history, newest
    first. One exception: the last exchange holds a quarter of the budget against the passages, since a
    follow-up means nothing without it. The question, the best passage and the last message are cut at
    their end where they do not fit; what comes after them is left out whole. The budget must hold what
    `count_tokens` counts for an empty text (a model's special tokens).
    """
    packer = _Packer(budget, count_tokens)
    packer.question(_TASKS[skill], turn.question)
    older = [_line(message) for message in turn.history]
    recent = older[-2:]
    held_back = min(sum(map(count_tokens, recent)), budget // 4)
    packer.passages(turn.passages if skill != "rewrite" else (), reserve=held_back)
    packer.history(older)
    return packer.packed()


def _line(message: Message) -> str:
    return f"{message.role}: {_one_line(message.content)}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _passage_line(passage: Passage) -> str:
    head = (passage.context or passage.title) if passage.kind == "topic" else ""
    body = _one_line(passage.text)
    return f"passage: {_one_line(head)}: {body}" if head else f"passage: {body}"


class _Packer:
    """Fills a token budget piece by piece and remembers what did not fit."""

    def __init__(self, budget: int, count_tokens: CountTokens) -> None:
        self._budget = budget
        self._count = count_tokens
        self._question = ""
        self._history: list[str] = []
        self._passages: list[str] = []
        self._dropped: list[str] = []

    def question(self, task: str, question: str) -> None:
        text = f"{task}: {_one_line(question)}"
        self._question, lost = _cut(text, lambda start: self._count(start) <= self._budget)
        if lost:
            self._dropped.append(f"question: its last {lost}")

    def passages(self, passages: Sequence[Passage], *, reserve: int) -> None:
        room = self._budget - reserve
        for rank, passage in enumerate(passages):
            line = _passage_line(passage)
            if self._fits(self._passages, len(self._passages), line, room):
                self._passages.append(line)
            elif rank == 0:
                self._passages, lost = self._beginning(self._passages, line, room)
                self._dropped.append(f"passage: {passage.id}{lost}")
            else:
                self._dropped.append(f"passage: {passage.id}")

    def history(self, lines: Sequence[str]) -> None:
        for position, line in enumerate(reversed(lines)):
            if self._fits(self._history, 0, line, self._budget):
                self._history.insert(0, line)
                continue
            older = len(lines) - position
            if position == 0:
                self._history, lost = self._beginning(self._history, line, self._budget)
                self._dropped += [f"history: its last message{lost}"] if lost else []
                older -= bool(lost)
            self._dropped += [f"history: its oldest {older} messages"] if older else []
            return

    def _fits(self, part: list[str], place: int, line: str, room: int) -> bool:
        part.insert(place, line)
        fits = self._count(self._text()) <= room
        part.pop(place)
        return fits

    def _beginning(self, part: list[str], line: str, room: int) -> tuple[list[str], str]:
        """The part with as much of a line as fits, none if that is only its label, and what was lost."""
        kept, lost = _cut(line, lambda start: self._fits(part, 0, start, room))
        return ([kept], f", its last {lost}") if len(kept.split()) > 2 else ([], "")

    def _text(self) -> str:
        return "\n".join([self._question, *self._history, *self._passages])

    def packed(self) -> Prompt:
        return Prompt(self._text(), tuple(self._dropped))


def _cut(text: str, fits: Callable[[str], bool]) -> tuple[str, str]:
    """The longest beginning that fits, in whole words where one does, and what was lost."""
    words = text.split(" ")
    keep = _longest(len(words), lambda n: fits(" ".join(words[:n])))
    if keep > 1 or keep == len(words):  # the first word is the label
        lost = f"{len(words) - keep} words" if keep < len(words) else ""
        return " ".join(words[:keep]), lost
    # A language without spaces, or a long link.
    keep = _longest(len(text), lambda n: fits(text[:n]))
    return text[:keep], f"{len(text) - keep} characters"


def _longest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest n in [0, most] that fits, by bisection; fits must be monotone."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low
