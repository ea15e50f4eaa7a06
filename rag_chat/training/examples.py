"""Training examples from dialogues: what the model would be given in service, and what it should say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rag_chat.config import GenerationSettings
from rag_chat.generation.fusion import readings
from rag_chat.generation.prompt import UNANSWERABLE, CountTokens
from rag_chat.types import Dialogue, Turn

Evidence = Literal["", "given", "found", "placed", "dropped", "missing"]


@dataclass(frozen=True, slots=True)
class Example:
    """One assistant turn: the turn as served, the reply wanted, and where it comes from.

    `sources` are the documents that the reply rests on, as the dialogue names them. `evidence` says where the
    passages come from: "given" with the dialogue, "found" by retrieval, "placed" among what was found,
    "dropped" or "missing" (an abstention, both), or "" where none is named.
    """

    dialogue: str
    turn: Turn
    target: str
    sources: tuple[str, ...] = ()
    evidence: Evidence = ""


def turn_examples(dialogue: Dialogue) -> Iterator[Example]:
    """Yield one example for each assistant reply that follows a user turn, with the passages it carries."""
    for place, reply in enumerate(dialogue.messages):
        if reply.role != "assistant" or place == 0 or dialogue.messages[place - 1].role != "user":
            continue
        question = dialogue.messages[place - 1].content
        turn = Turn(question, dialogue.messages[: place - 1], reply.passages)
        target = UNANSWERABLE if reply.abstained else reply.content
        yield Example(dialogue.id, turn, target, reply.sources, "given" if reply.passages else "")


def model_inputs(
    example: Example, generation: GenerationSettings, count_tokens: CountTokens
) -> tuple[str, ...]:
    """The texts that the model reads for this example: the same function serves them."""
    read = readings(
        example.turn, fuse=generation.fuse, budget=generation.input_tokens, count_tokens=count_tokens
    )
    return tuple(prompt.text for prompt in read)
