"""Training examples from dialogues: what the model would be given in service, and what it should say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rag_chat.generation.prompt import UNANSWERABLE, CountTokens, pack
from rag_chat.types import Dialogue, Turn


@dataclass(frozen=True, slots=True)
class Example:
    """One assistant turn: the turn as served, the reply wanted, and where it comes from.

    `sources` are the documents that the reply rests on, as the dialogue names them.
    """

    dialogue: str
    turn: Turn
    target: str
    sources: tuple[str, ...] = ()


def turn_examples(dialogue: Dialogue) -> Iterator[Example]:
    """Yield one example for each assistant reply that follows a user turn, with the passages it carries."""
    for place, reply in enumerate(dialogue.messages):
        if reply.role != "assistant" or place == 0 or dialogue.messages[place - 1].role != "user":
            continue
        question = dialogue.messages[place - 1].content
        turn = Turn(question, dialogue.messages[: place - 1], reply.passages)
        target = UNANSWERABLE if reply.abstained else reply.content
        yield Example(dialogue.id, turn, target, reply.sources)


def model_input(example: Example, *, budget: int, count_tokens: CountTokens) -> str:
    """The text the model reads for this example: the same function serves it."""
    return pack(example.turn, budget=budget, count_tokens=count_tokens).text
