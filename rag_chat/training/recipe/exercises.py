"""What every corpus needs to become exercises: files, windows of a text, distractors, what is set aside."""

from __future__ import annotations

import json
import lzma
import random
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rag_chat.training.cloze import sentences
from rag_chat.types import Dialogue, Message, Passage

NO_ANSWER = "I could not find that in my documents."

Shown = tuple[str, str]  # title and text of a passage
Exercises = Iterator[Dialogue]


def set_aside(group: str) -> bool:
    """Whether an article, dialogue or document is kept for measuring: an eighth of them, by their names."""
    return zlib.crc32(group.encode()) % 8 == 2


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a packed JSON Lines file, none when it is absent."""
    if path.is_file():
        with lzma.open(path, "rt", encoding="utf-8") as file:
            yield from map(json.loads, file)


def exercise(
    name: str,
    question: str,
    answer: str,
    shown: Sequence[Shown],
    history: Sequence[Message] = (),
) -> Dialogue:
    """One question with its passages; an empty answer is an abstention."""
    passages = tuple(
        Passage(f"given#{i}", f"given#{i}", title, text, 0, len(text), context=title)
        for i, (title, text) in enumerate(shown)
    )
    reply = Message("assistant", answer or NO_ANSWER, passages=passages, abstained=not answer)
    return Dialogue(name, (*history, Message("user", question), reply))


def window(text: str, answer: str, rng: random.Random) -> str:
    """The whole text or, mostly, a few sentences of it, those with the answer among them."""
    split = sentences(text) or [text]
    if rng.random() < 0.25 and len(text.split()) < 150:
        return text
    holding = [i for i, sentence in enumerate(split) if answer and answer in sentence]
    if answer and not holding:
        return " ".join(text.split()[:150]) if answer in " ".join(text.split()[:150]) else text
    first = max(0, (rng.choice(holding) if holding else rng.randrange(len(split))) - rng.choice((0, 1)))
    return " ".join(split[first : first + 3])


def sentence_with(answer: str, text: str) -> str:
    """The first sentence that holds the answer, "" when none does."""
    return next((sentence for sentence in sentences(text) if answer in sentence), "")


def among(gold: Shown, others: Sequence[Shown], rng: random.Random) -> list[Shown]:
    """The gold passage in a random place among none to two others."""
    shown = [gold, *rng.sample(list(others), min(len(others), rng.choice((0, 1, 1, 2))))]
    rng.shuffle(shown)
    return shown


def joined(tokens: str) -> str:
    """Text from space-separated tokens: punctuation closes up with the word before it."""
    text = re.sub(r"\s+([.,;:!?)'’%]|n't|'s)", r"\1", tokens.replace("``", '"').replace("''", '"'))
    return re.sub(r"([(])\s+", r"\1", text).strip()
