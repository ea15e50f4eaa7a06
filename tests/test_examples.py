"""Dialogues become the examples that service would give the model."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import models

from rag_chat.config import GenerationSettings
from rag_chat.generation.fusion import readings
from rag_chat.generation.prompt import UNANSWERABLE
from rag_chat.training.examples import (
    Example,
    judgement_examples,
    model_inputs,
    rewrite_examples,
    turn_examples,
)
from rag_chat.types import Dialogue, Message, Turn

SYSTEM = Message("system", "Be brief.")
ASKED = Message("user", "Where is Tromsø?")
SAID = Message("assistant", "In Norway.", sources=("t.md",), passages=(models.PLACE,))
MORE = Message("user", "And Oz?")
ABSTAINED = Message("assistant", "I could not find that.", abstained=True)


def test_one_example_for_each_reply() -> None:
    dialogue = Dialogue("d", (SYSTEM, ASKED, SAID, MORE, ABSTAINED))
    assert list(turn_examples(dialogue)) == [
        Example("d", Turn("Where is Tromsø?", (SYSTEM,), (models.PLACE,)), "In Norway.", ("t.md",), "given"),
        Example("d", Turn("And Oz?", (SYSTEM, ASKED, SAID)), "unanswerable"),
    ]


def test_a_reply_needs_a_question_right_before_it() -> None:
    greeting = Message("assistant", "Hello!")
    assert list(turn_examples(Dialogue("d", (greeting, greeting, ASKED)))) == []
    assert list(turn_examples(Dialogue("d", ()))) == []
    (only,) = turn_examples(Dialogue("d", (greeting, ASKED, SAID, greeting)))
    assert only.turn.history == (greeting,)


def test_the_model_reads_what_it_will_be_served() -> None:
    def words(text: str) -> int:
        return len(text.split())

    (example, _) = turn_examples(Dialogue("d", (SYSTEM, ASKED, SAID, MORE, ABSTAINED)))
    two = replace(example, turn=replace(example.turn, passages=(models.PLACE, models.EGGS)))
    for one, fuse in itertools.product((example, two), ("concat", "decoder")):
        for budget in (8, 12, 99):
            settings = GenerationSettings(input_tokens=budget, fuse=fuse)
            served = readings(one.turn, fuse=fuse, budget=budget, count_tokens=words)
            assert model_inputs(one, settings, words) == tuple(prompt.text for prompt in served)


def test_a_message_with_its_rewrite_teaches_rewriting() -> None:
    asked = replace(MORE, rewrite="And where is Oz?")
    (example,) = rewrite_examples(Dialogue("d", (ASKED, SAID, asked, ABSTAINED)))
    assert example == Example("d", Turn("And Oz?", (ASKED, SAID)), "And where is Oz?", skill="rewrite")
    (text,) = model_inputs(example, GenerationSettings(input_tokens=99, fuse="decoder"), len)
    assert text.splitlines()[0] == "rewrite: And Oz?"


def test_turns_with_evidence_teach_whether_it_answers() -> None:
    examples = [
        Example("d", Turn("a"), target, evidence=kind)
        for target, kind in (("Six.", "found"), (UNANSWERABLE, "dropped"), ("Hi!", ""))
    ] * 50
    judged = judgement_examples(examples, random.Random(0))
    assert judged == judgement_examples(examples, random.Random(0))
    assert {(one.evidence, one.target) for one in judged} == {
        ("found", "answerable"), ("dropped", UNANSWERABLE),
    }  # fmt: skip
    assert 10 < len(judged) < 40


def test_passages_never_enter_the_history() -> None:
    *_, last = turn_examples(Dialogue("d", (ASKED, SAID, MORE, ABSTAINED)))
    (text,) = model_inputs(last, GenerationSettings(input_tokens=99), len)
    assert models.PLACE.text not in text
