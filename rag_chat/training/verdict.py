"""Whether tuning helped: base and tuned answer the same held-out turns as they would in service."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rag_chat.conversation.verdict import says_nothing
from rag_chat.evaluation.intervals import Interval, paired_interval
from rag_chat.evaluation.metrics import token_f1
from rag_chat.generation.prompt import UNANSWERABLE
from rag_chat.training.examples import Example
from rag_chat.types import Generator

MOST_TURNS = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    """The scores of both models on the same held-out turns, in [0, 1], and the paired difference
    with its 95% interval.

    `measure` is what was scored. `chosen_on` says that these turns also chose the checkpoint, which
    favours the tuned model. A model that started from nothing has no base (None).
    """

    measure: str
    turns: int
    conversations: int
    base: float | None
    tuned: float
    difference: Interval | None
    chosen_on: bool = False

    @property
    def better(self) -> bool:
        """Whether the tuned model scored above its base beyond chance."""
        return self.difference is not None and self.difference[1] > 0

    @property
    def worse(self) -> bool:
        """Whether the tuned model scored below its base."""
        return self.difference is not None and self.difference[0] < 0

    def __str__(self) -> str:
        scored = f"{self.measure} on {self.turns} turns of {self.conversations} held-out conversations"
        if self.base is None or self.difference is None:
            return f"{scored}: {100 * self.tuned:.1f}"
        mean, low, high = (100 * value for value in self.difference)
        won = "the tuned model won" if low > 0 else "the base won" if high < 0 else "neither won for certain"
        chose = " (they chose the checkpoint, too)" if self.chosen_on else ""
        return (
            f"{won}: {scored}{chose}: base {100 * self.base:.1f}, tuned {100 * self.tuned:.1f}, "
            f"difference {mean:+.1f} [{low:+.1f}, {high:+.1f}]"
        )


def sampled(examples: Sequence[Example], seed: int) -> list[Example]:
    """At most MOST_TURNS examples, seeded, so that a verdict takes minutes at most."""
    if len(examples) <= MOST_TURNS:
        return list(examples)
    return random.Random(seed).sample(list(examples), MOST_TURNS)


def answer_scores(generator: Generator, examples: Sequence[Example]) -> list[float]:
    """Token F1 of each answer; of two abstentions 1 and of one 0, whatever their words."""
    said = generator.generate([example.turn for example in examples])
    return [_f1(one.text, example.target) for one, example in zip(said, examples, strict=True)]


def judge(
    base: Sequence[float] | None,
    tuned: Sequence[float],
    conversations: Sequence[str],
    *,
    measure: str,
    chosen_on: bool = False,
) -> Verdict:
    """Compare scores turn by turn; `conversations` names the one that each turn is of."""
    return Verdict(
        measure=measure,
        turns=len(tuned),
        conversations=len(set(conversations)),
        base=None if base is None else float(np.mean(base)),
        tuned=float(np.mean(tuned)),
        difference=None if base is None else paired_interval(tuned, base, conversations),
        chosen_on=chosen_on,
    )


def _f1(said: str, wanted: str) -> float:
    abstained = says_nothing(said)
    if abstained or wanted == UNANSWERABLE:
        return float(abstained and wanted == UNANSWERABLE)
    return token_f1(said, wanted)
