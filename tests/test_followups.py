"""What is searched for in a conversation, and how what each query finds is fused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
from conftest import tiny_documents
from hypothesis import given
from hypothesis import strategies as st

from rag_chat.conversation.evidence import DEPTH, find_evidence
from rag_chat.conversation.query import acceptable, plan
from rag_chat.index.embedding import SentenceTransformerEmbedder
from rag_chat.retrieval.fusion import fuse_hits
from rag_chat.retrieval.index import Index
from rag_chat.types import Dialogue, Hit, Message, Passage

TALK = (
    Message("user", "Tell me about green tea from Kyoto."),
    Message("assistant", "It is steeped at 75 degrees."),
)
words = st.text("ab ?", max_size=30)


def test_the_question_alone_opens_a_conversation() -> None:
    assert plan("How hot is the water?", ()) == ("How hot is the water?",)


def test_a_follow_up_is_searched_for_raw_and_with_its_history() -> None:
    raw, subject, *_ = plan("And for how long?", TALK)
    assert raw == "And for how long?"
    assert subject == "Tell me about green tea from Kyoto. It is steeped at 75 degrees. And for how long?"


@given(words, st.lists(words, max_size=5), words)
def test_a_plan_begins_with_the_question_and_repeats_nothing(
    question: str, said: list[str], rewrite: str
) -> None:
    history = [Message("assistant" if n % 2 else "user", text) for n, text in enumerate(said)]
    texts = plan(question, history, rewrite)
    assert texts[0] == question
    assert len(set(texts)) == len(texts) <= 5


@pytest.mark.parametrize(
    ("rewrite", "taken"),
    [
        ("How long is green tea from Kyoto steeped?", True),
        ("", False),
        ("Who won the cup in football?", False),
        ("green tea " * 21, False),
    ],
)
def test_a_rewrite_is_taken_when_it_is_about_the_same(rewrite: str, taken: bool) -> None:
    assert acceptable(rewrite, "And for how long?", TALK) == taken
    assert (rewrite in plan("And for how long?", TALK, rewrite)) == taken


def test_many_turns_at_once_equal_one_by_one(tiny_index: Index) -> None:
    plans = [
        plan("And for how long?", TALK),
        plan("Does the oven have to be hot?", ()),
        plan("Who steers?", TALK),
    ]
    together = find_evidence(tiny_index, plans, 3)
    for one, texts in zip(together, plans, strict=True):
        (alone,) = find_evidence(tiny_index, [texts], 3)
        assert [hit.passage.id for hit in alone.hits] == [hit.passage.id for hit in one.hits]
        assert sum(query.weight for query in one.queries) == pytest.approx(1.0, abs=1e-3)
        assert tuple(query.text for query in one.queries) == texts
        assert len(one.hits) == 3


def test_a_topic_change_is_followed(tiny_index: Index) -> None:
    (found,) = find_evidence(tiny_index, [plan("Pizza dough rests for a day.", TALK)], 1)
    assert found.hits[0].passage.source == "food/pizza.md"


def test_past_exchanges_are_a_fifth_unless_nothing_else_is_there(tiny_index: Index) -> None:
    texts = [plan("How long do I boil an egg?", TALK)]
    (found,) = find_evidence(tiny_index, texts, 5)
    kinds = [hit.passage.kind for hit in found.hits]
    assert (len(kinds), kinds.count("dialogue")) == (5, 1)
    assert [hit.rank for hit in found.hits] == [1, 2, 3, 4, 5]
    (found,) = find_evidence(tiny_index, texts, 3, filter={"kind": "dialogue"})
    assert len(found.hits) == 3


def test_documents_are_found_however_many_exchanges_are_nearer(
    tmp_path: Path, tiny_embedder: SentenceTransformerEmbedder
) -> None:
    question = "And for how long?"
    asked = [*TALK, Message("user", question)]
    chats = [Dialogue(f"chat-{n}", (*asked, Message("assistant", f"{n} minutes."))) for n in range(DEPTH + 5)]
    with Index.build([*tiny_documents(), *chats], tmp_path / "index", embedder=tiny_embedder) as index:
        crowd = index.search(question, DEPTH)
        assert all(hit.passage.kind == "dialogue" for hit in crowd)
        (found,) = find_evidence(index, [[question]], 5)
    kinds = [hit.passage.kind for hit in found.hits]
    assert (len(kinds), kinds.count("topic")) == (5, 4)


@pytest.mark.parametrize(("near", "found"), [(0.6, ["b", "a", "c"]), (0.4, ["b", "c", "d"])])
def test_a_new_topic_is_found_whatever_was_talked_about(near: float, found: list[str]) -> None:
    """What the raw question finds has a place, though a query with the old topic is nearer to others."""

    class Rankings:
        def search_many(self, queries: Sequence[str], *_: object, **__: object) -> list[list[Hit]]:
            rest = [Hit(one, 0.9, n, dense=0.9) for n, one in enumerate(passages[1:], 1)]
            return [[Hit(passages[0], near, 1, dense=near)], *([rest] * (len(queries) - 1))]

    passages = [Passage(name, name, "", name, 0, 1) for name in "abcde"]
    (evidence,) = find_evidence(cast("Index", Rankings()), [plan("How do I cook rice?", TALK)], 3)
    assert [hit.passage.id for hit in evidence.hits] == found
    assert [hit.rank for hit in evidence.hits] == [1, 2, 3]


def test_the_other_sources_are_found_when_one_is_excluded(tiny_index: Index) -> None:
    texts = plan("Green tea is steeped at 75 degrees.", TALK)
    (found,) = find_evidence(tiny_index, [texts], 5, exclude_sources=[["food/tea.md"]])
    assert "food/tea.md" not in {hit.passage.source for hit in found.hits}


def test_fused_hits_are_ordered_by_weighted_rank() -> None:
    a, b, c = (Passage(name, name, "", name, 0, 1) for name in "abc")
    first = [Hit(a, 0.9, 1, dense=0.9), Hit(b, 0.8, 2, dense=0.8)]
    second = [Hit(c, 0.3, 1, dense=0.3), Hit(b, 0.2, 2, dense=0.2)]
    fused = fuse_hits([first, second], [0.75, 0.25])
    assert [hit.passage.id for hit in fused] == ["b", "a", "c"]
    assert [hit.score for hit in fused] == pytest.approx([1 / 12, 0.75 / 11, 0.25 / 11])
    assert [hit.dense for hit in fused] == [0.8, 0.9, 0.3]  # of the heavier query
    assert fuse_hits([first], [1.0]) == first
