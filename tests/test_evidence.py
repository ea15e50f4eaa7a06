"""The evidence that training turns get: as in service, never the conversation itself."""

from __future__ import annotations

import random

import pytest

from rag_chat.errors import TrainingError
from rag_chat.generation.prompt import UNANSWERABLE
from rag_chat.retrieval.index import Index
from rag_chat.training.evidence import as_served, gather
from rag_chat.types import Dialogue, Message, Passage

EGGS = Dialogue(
    "d-eggs",  # is in the index, with this very question
    (
        Message("user", "How long do I boil an egg?"),
        Message("assistant", "Six minutes.", sources=("food/eggs.md",)),
    ),
)


def test_a_conversation_is_never_retrieved_for_itself(tiny_index: Index) -> None:
    (example,) = gather([EGGS], tiny_index, k=13, gold_dropout=0.0, rng=random.Random(0))
    sources = {passage.source for passage in example.turn.passages}
    assert "d-eggs" not in sources
    assert "food/eggs.md" in sources
    assert example.target == "Six minutes."


def test_the_gold_passage_is_put_in_where_it_was_not_found(tiny_index: Index) -> None:
    asked = Dialogue(
        "new",
        (Message("user", "Snow?"), Message("assistant", "Rinse the rice.", sources=("food/rice.md",))),
    )
    for k in (1, 2):
        (example,) = gather([asked], tiny_index, k=k, gold_dropout=0.0, rng=random.Random(0))
        assert "food/rice.md" in {passage.source for passage in example.turn.passages}
        assert len(example.turn.passages) == k


def test_gold_dropout_takes_all_evidence_away_and_wants_an_abstention(tiny_index: Index) -> None:
    (example,) = gather([EGGS], tiny_index, k=13, gold_dropout=1.0, rng=random.Random(0))
    assert "food/eggs.md" not in {passage.source for passage in example.turn.passages}
    assert example.target == UNANSWERABLE
    assert example.evidence == "dropped"


def test_distractors_take_the_place_of_evidence_that_was_dropped(tiny_index: Index) -> None:
    """A list shorter than the others would tell that there is no answer."""
    first = [
        gather([EGGS], tiny_index, k=3, gold_dropout=1.0, rng=random.Random(seed))[0] for seed in (1, 1, 2, 3)
    ]
    for example in first:
        names = [passage.id for passage in example.turn.passages]
        assert len(names) == len(set(names)) == 3
        assert not {"food/eggs.md", "d-eggs"} & {passage.source for passage in example.turn.passages}
    assert first[0] == first[1]  # seeded
    assert any(example != first[0] for example in first)


def test_scoring_sees_what_service_finds(tiny_index: Index) -> None:
    (example,) = as_served([EGGS], tiny_index, k=2)
    hits = tiny_index.search("How long do I boil an egg?", 2, exclude_sources=["d-eggs"])
    assert example.turn.passages == tuple(hit.passage for hit in hits)


def asked(name: str, source: str) -> Dialogue:
    reply = Message("assistant", "Rinse the rice.", sources=(source,))
    return Dialogue(name, (Message("user", "What about rice?"), reply))


def test_a_turn_whose_evidence_is_missing_is_an_abstention(tiny_index: Index) -> None:
    dialogues = [asked("a", "food/rice.md"), asked("b", "food/rice.md"), asked("c", "food/mango.md")]
    for examples in (
        gather(dialogues, tiny_index, k=3, gold_dropout=0.0, rng=random.Random(0)),
        as_served(dialogues, tiny_index, k=3),
    ):
        assert [e.target for e in examples] == ["Rinse the rice."] * 2 + [UNANSWERABLE]
        assert examples[2].evidence == "missing"


def test_sources_that_are_all_unknown_are_a_mistake(tiny_index: Index) -> None:
    with pytest.raises(TrainingError, match=r"2 of 3 replies .* 'mango'"):
        as_served([asked("a", "food/rice.md"), asked("b", "mango"), asked("c", "mango")], tiny_index, k=3)


def test_given_passages_are_kept_as_they_are(tiny_index: Index) -> None:
    given = Passage("given#0", "given#0", "", "Six.", 0, 4)
    asked = Dialogue("new", (Message("user", "?"), Message("assistant", "Six.", passages=(given,))))
    (example,) = gather([asked], tiny_index, k=3, gold_dropout=1.0, rng=random.Random(0))
    assert example.turn.passages == (given,)
    assert example.target == "Six."
