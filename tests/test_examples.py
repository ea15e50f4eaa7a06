"""Dialogues become the examples that service would give the model."""

from __future__ import annotations

import models

from rag_chat.generation.prompt import pack
from rag_chat.training.examples import Example, model_input, turn_examples
from rag_chat.types import Dialogue, Message, Turn

SYSTEM = Message("system", "Be brief.")
ASKED = Message("user", "Where is Tromsø?")
SAID = Message("assistant", "In Norway.", sources=("t.md",), passages=(models.PLACE,))
MORE = Message("user", "And Oz?")
ABSTAINED = Message("assistant", "I could not find that.", abstained=True)


def test_one_example_for_each_reply() -> None:
    dialogue = Dialogue("d", (SYSTEM, ASKED, SAID, MORE, ABSTAINED))
    assert list(turn_examples(dialogue)) == [
        Example("d", Turn("Where is Tromsø?", (SYSTEM,), (models.PLACE,)), "In Norway.", ("t.md",)),
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
    for budget in (3, 8, 99):
        served = pack(example.turn, budget=budget, count_tokens=words).text
        assert model_input(example, budget=budget, count_tokens=words) == served


def test_passages_never_enter_the_history() -> None:
    *_, last = turn_examples(Dialogue("d", (ASKED, SAID, MORE, ABSTAINED)))
    assert models.PLACE.text not in model_input(last, budget=99, count_tokens=len)
