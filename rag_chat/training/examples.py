"""Training examples from dialogues: what the model would be given in service, and what it should say."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rag_chat.config import GenerationSettings, Skill
from rag_chat.generation.fusion import readings
from rag_chat.generation.prompt import ANSWERABLE, UNANSWERABLE, CountTokens
from rag_chat.types import Dialogue, Turn

JUDGED = 0.25
Evidence = Literal["", "given", "found", "placed", "dropped", "missing"]


@dataclass(frozen=True, slots=True)
class Example:
    """One assistant turn: the turn as served, the reply wanted, and where it comes from.

    `sources` are the documents that the reply rests on, as the dialogue names them. `evidence` says where the
    passages come from: "given" with the dialogue, "found" by retrieval, "placed" among what was found,
    "dropped" or "missing" (an abstention, both), or "" where none is named. `skill` is what the model is
    asked for.
    """

    dialogue: str
    turn: Turn
    target: str
    sources: tuple[str, ...] = ()
    evidence: Evidence = ""
    skill: Skill = "answer"


def turn_examples(dialogue: Dialogue) -> Iterator[Example]:
    """Yield one example for each assistant reply that follows a user turn, with the passages it carries."""
    for place, reply in enumerate(dialogue.messages):
        if reply.role != "assistant" or place == 0 or dialogue.messages[place - 1].role != "user":
            continue
        question = dialogue.messages[place - 1].content
        turn = Turn(question, dialogue.messages[: place - 1], reply.passages)
        target = UNANSWERABLE if reply.abstained else reply.content
        yield Example(dialogue.id, turn, target, reply.sources, "given" if reply.passages else "")


def rewrite_examples(dialogue: Dialogue) -> Iterator[Example]:
    """Yield one example for each user message that carries what it means without the conversation."""
    for place, message in enumerate(dialogue.messages):
        if message.role == "user" and message.rewrite:
            turn = Turn(message.content, dialogue.messages[:place])
            yield Example(dialogue.id, turn, message.rewrite, skill="rewrite")


def judgement_examples(examples: Sequence[Example], rng: random.Random) -> list[Example]:
    """For a seeded share of the turns with passages, the question whether those hold the answer at all."""
    return [
        replace(
            example,
            skill="unanswerable",
            target=UNANSWERABLE if example.target == UNANSWERABLE else ANSWERABLE,
        )
        for example in examples
        if example.evidence and rng.random() < JUDGED
    ]


def model_inputs(
    example: Example, generation: GenerationSettings, count_tokens: CountTokens
) -> tuple[str, ...]:
    """The texts that the model reads for this example: the same function serves them."""
    read = readings(
        example.turn,
        fuse=generation.fuse,
        budget=generation.input_tokens,
        count_tokens=count_tokens,
        skill=example.skill,
    )
    return tuple(prompt.text for prompt in read)
