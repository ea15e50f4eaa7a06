"""Whether a turn needs the history, and what is searched for when it does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_chat.conversation.query import depends_on_history, stand_alone
from rag_chat.types import Message

LIGHTS = Message("user", "Where can I see the northern lights?")
REPLY = Message("assistant", "In Iceland and in Norway.")


@pytest.mark.parametrize(
    "turn",
    [
        "And in which months?",
        "why?",
        "how long",
        "Is it spicy?",
        "what about the white ones",
        "How about in winter?",
        "and for women?",
        "Can I do that in a day?",
    ],
)
def test_a_follow_up_needs_the_history(turn: str) -> None:
    assert depends_on_history(turn)
    assert stand_alone(turn, (LIGHTS, REPLY)) == f"{LIGHTS.content} {turn}"


@pytest.mark.parametrize(
    "turn",
    [
        "How hot should water be for sencha?",
        "which flour for neapolitan pizza",
        "Why does bread dough rise overnight in the fridge?",
        "Who invented basketball in Springfield?",
        "Где живут белые медведи зимой?",
        "Welche Gewürze gehören in Glühwein?",
    ],
)
def test_a_question_with_its_own_subject_stands_alone(turn: str) -> None:
    assert not depends_on_history(turn)
    assert stand_alone(turn, (LIGHTS, REPLY)) == turn


def test_a_chain_of_follow_ups_goes_back_to_the_turn_that_stood_alone() -> None:
    history = (LIGHTS, REPLY, Message("user", "And in which months?"), Message("assistant", "In winter."))
    assert stand_alone("why?", history) == f"{LIGHTS.content} why?"


def test_a_first_turn_is_searched_for_as_it_is() -> None:
    assert stand_alone("how long?", ()) == "how long?"


@given(st.text(), st.lists(st.text()))
def test_the_query_always_holds_the_raw_turn(turn: str, said: list[str]) -> None:
    assert stand_alone(turn, [Message("user", text) for text in said]).endswith(turn)
