"""Training examples from dialogues: what the model would be given in service, and what it should say."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from rag_chat.generation.prompt import UNANSWERABLE, CountTokens, pack
from rag_chat.types import Dialogue, Hit, Message, Passage, Turn


@dataclass(frozen=True, slots=True)
class Example:
    """One assistant turn: the turn as served, the reply wanted, and the conversation it is from."""

    dialogue: str
    turn: Turn
    target: str
    grounded: bool


class Evidence(Protocol):
    """Finds the evidence for a turn as it would be found in service."""

    def __call__(self, question: str, history: Sequence[Message], dialogue: str) -> list[Hit]:
        """Return the passages for this turn, best first, none of them from `dialogue` itself."""
        ...


def turn_examples(dialogue: Dialogue, evidence: Evidence | None, *, k: int) -> Iterator[Example]:
    """Yield one example for each assistant reply that follows a user turn.

    A reply that carries its passages is trained on those; the others on what `evidence` finds. With
    neither, the model learns the reply from the conversation alone.
    """
    for place, reply in enumerate(dialogue.messages):
        if reply.role != "assistant" or place == 0 or dialogue.messages[place - 1].role != "user":
            continue
        question, history = dialogue.messages[place - 1].content, dialogue.messages[: place - 1]
        passages: tuple[Passage, ...] = reply.passages
        if not passages and evidence is not None:
            passages = tuple(h.passage for h in evidence(question, history, dialogue.id)[:k])
        target = UNANSWERABLE if reply.abstained else reply.content
        turn = Turn(question, history, passages)
        yield Example(dialogue.id, turn, target, bool(reply.sources or reply.passages))


def without_gold(example: Example, gold: Sequence[str]) -> Example:
    """The same turn with its evidence taken away, to be answered with an abstention."""
    kept = tuple(p for p in example.turn.passages if p.source not in gold)
    turn = Turn(example.turn.question, example.turn.history, kept)
    return Example(example.dialogue, turn, UNANSWERABLE, False)


def shuffled_passages(example: Example, rng: random.Random) -> Example:
    """The same example with its passages in another order, so that place alone tells nothing."""
    passages = list(example.turn.passages)
    rng.shuffle(passages)
    turn = Turn(example.turn.question, example.turn.history, tuple(passages))
    return Example(example.dialogue, turn, example.target, example.grounded)


def model_input(example: Example, *, budget: int, count_tokens: CountTokens) -> str:
    """The text the model reads for this example: the same function serves it."""
    return pack(example.turn, budget=budget, count_tokens=count_tokens).text
