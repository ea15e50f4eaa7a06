"""Ranking scores against the definitions, worked out by brute force."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_chat.errors import ModelError
from rag_chat.evaluation.ranking import rank_scores, sources_found
from rag_chat.types import Hit, Passage

documents = st.sampled_from("abcdefgh")
rankings = st.lists(documents, unique=True, max_size=8)
judged = st.dictionaries(documents, st.integers(0, 3), min_size=1).filter(lambda grades: any(grades.values()))


def by_hand(ranking: list[str], grades: dict[str, int]) -> dict[str, float]:
    relevant = {one for one, grade in grades.items() if grade > 0}
    ranks = [rank for rank, one in enumerate(ranking, 1) if one in relevant]
    gain = sum(grades.get(one, 0) / math.log2(rank + 1) for rank, one in enumerate(ranking[:10], 1))
    best = sorted(grades.values(), reverse=True)[:10]
    return {
        "recall@1": len(relevant & set(ranking[:1])) / len(relevant),
        "recall@5": len(relevant & set(ranking[:5])) / len(relevant),
        "mrr@10": 1 / ranks[0] if ranks else 0.0,
        "ndcg@10": gain / sum(grade / math.log2(rank + 1) for rank, grade in enumerate(best, 1)),
    }


@settings(max_examples=60, deadline=None)
@given(rankings, judged)
def test_scores_are_what_they_are_defined_as(ranking: list[str], grades: dict[str, int]) -> None:
    expected = by_hand(ranking, grades)
    found = rank_scores({"q": ranking}, {"q": grades}, list(expected))
    assert {name: scores["q"] for name, scores in found.items()} == pytest.approx(expected)


def test_a_query_that_found_nothing_counts() -> None:
    scores = rank_scores({"one": ["a"]}, {"one": {"a": 1}, "two": {"b": 1}}, ["recall@1", "mrr@10"])
    assert scores == {"recall@1": {"one": 1.0, "two": 0.0}, "mrr@10": {"one": 1.0, "two": 0.0}}


def hit(source: str, rank: int, score: float = 0.5) -> Hit:
    return Hit(Passage(f"{source}#p{rank}", source, "", "text", 0, 4), score, rank)


def test_further_passages_of_a_document_take_up_their_places() -> None:
    places = sources_found([hit("a", 1), hit("a", 2), hit("b", 3)])
    assert (places[0], places[2]) == ("a", "b")
    scores = rank_scores({"q": places}, {"q": {"b": 1}}, ["mrr@10", "recall@3"])
    assert scores == {"mrr@10": {"q": pytest.approx(1 / 3)}, "recall@3": {"q": 1.0}}


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_refused(score: float) -> None:
    with pytest.raises(ModelError, match="not a number") as caught:
        sources_found([hit("a", 1, score)])
    assert "rag-chat index verify" in caught.value.fix
