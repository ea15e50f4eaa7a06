"""The evidence that training turns get: as in service, never the conversation itself."""

from __future__ import annotations

import random

from rag_chat.generation.prompt import UNANSWERABLE
from rag_chat.retrieval.index import Index
from rag_chat.training.evidence import gather
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


def test_given_passages_are_kept_as_they_are(tiny_index: Index) -> None:
    given = Passage("given#0", "given#0", "", "Six.", 0, 4)
    asked = Dialogue("new", (Message("user", "?"), Message("assistant", "Six.", passages=(given,))))
    (example,) = gather([asked], tiny_index, k=3, gold_dropout=1.0, rng=random.Random(0))
    assert example.turn.passages == (given,)
    assert example.target == "Six."
