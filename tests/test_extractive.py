"""The reader without a model says a sentence of the passages, word for word."""

from __future__ import annotations

import models
import pytest

from rag_chat.generation import load_generator
from rag_chat.generation.extractive import ExtractiveReader
from rag_chat.types import Passage, Turn

READER = ExtractiveReader(models.WordEmbedder())
TALK = Passage(
    "d#p0",
    "d",
    "",
    "User: Where do puffins nest?\nAssistant: Puffins nest on cliffs.\nThey come in May.\nUser: Thanks!\n"
    "Assistant: Welcome!",
    0,
    113,
    kind="dialogue",
)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Which city lies in Norway?", "The city of Tromsø lies in Norway."),
        ("Boil an egg", "Boil an egg for six minutes."),
    ],
)
def test_answers_with_the_nearest_sentence(question: str, answer: str) -> None:
    turn = Turn(question, (), (models.PLACE, models.EGGS))
    assert models.texts(READER, [turn]) == [answer]
    assert list(READER.stream(turn)) == [answer]


def test_the_stand_alone_query_is_what_counts() -> None:
    turn = Turn("And there, six minutes?", (), (models.PLACE, models.EGGS), query="city in Norway")
    assert models.texts(READER, [turn]) == [models.PLACE.text]
    assert READER.prompt(turn).text == "city in Norway"


def test_answers_each_turn_in_order() -> None:
    turns = [Turn("Norway?", (), (models.PLACE,)), Turn("What?"), Turn("egg", (), (models.EGGS,))]
    assert models.texts(READER, turns) == [models.PLACE.text, "unanswerable", models.EGGS.text]
    assert models.texts(READER, []) == []


def test_of_a_dialogue_only_a_reply_is_said() -> None:
    assert models.texts(READER, [Turn("Where do puffins nest?", (), (TALK,))])[0] == "Puffins nest on cliffs."
    assert models.texts(READER, [Turn("They come in?", (), (TALK,))])[0] == "They come in May."


def test_an_empty_passage_says_nothing() -> None:
    assert (
        models.texts(READER, [Turn("What?", (), (Passage("p", "s", "", " \n", 0, 2),))])[0] == "unanswerable"
    )


def test_is_loaded_by_name() -> None:
    generator = load_generator("extractive", embedder=models.WordEmbedder())
    assert isinstance(generator, ExtractiveReader)
    assert generator.name == "extractive"
