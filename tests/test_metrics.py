"""Scores against values worked out by hand, and what must hold for any text."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_chat.evaluation.metrics import (
    abstention,
    bleu,
    distinct,
    exact_match,
    normalise,
    repetition,
    rouge_l,
    support,
    token_f1,
)
from rag_chat.types import Passage

texts = st.one_of(
    st.text(max_size=30), st.lists(st.sampled_from("the a cat Sat. on, mat".split())).map(" ".join)
)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The  Cat's\n hat!", "cats hat"),
        ("An apple a day – “the” best", "apple day best"),
        ("theatre", "theatre"),
        ("", ""),
        ("the", ""),
    ],
)
def test_normalise(text: str, plain: str) -> None:
    assert normalise(text) == plain


@pytest.mark.parametrize(
    ("answer", "gold", "f1"),
    [
        ("the cat sat", "a cat sat down", 0.8),  # 2 of 2 said, 2 of 3 wanted
        ("cat cat", "cat", 2 / 3),  # the second cat does not count
        ("dog", "cat", 0.0),
        ("", "cat", 0.0),
        ("the", "", 1.0),
        ("Six minutes.", "six minutes", 1.0),
    ],
)
def test_token_f1(answer: str, gold: str, f1: float) -> None:
    assert token_f1(answer, gold) == pytest.approx(f1)


def test_exact_match() -> None:
    assert exact_match("The Eiffel Tower.", "eiffel tower") == 1.0
    assert exact_match("Eiffel", "eiffel tower") == 0.0


@given(texts, texts)
def test_f1_is_symmetric_and_within_bounds_and_one_for_a_match(one: str, other: str) -> None:
    assert token_f1(one, other) == token_f1(other, one)
    assert 0.0 <= token_f1(one, other) <= 1.0
    assert exact_match(one, other) <= token_f1(one, other)
    assert token_f1(one, one) == exact_match(one, one) == 1.0


# --- Scores from well-kept libraries, held against what they are defined as ------------------------


@pytest.mark.parametrize(
    ("answer", "gold", "score"),
    [
        ("a cat sat", "a cat sat down", 6 / 7),  # 3 in common, of 3 and of 4
        ("sat cat a", "a cat sat", 1 / 3),  # in order only one
        ("dog", "cat", 0.0),
    ],
)
def test_rouge_l(answer: str, gold: str, score: float) -> None:
    assert rouge_l(answer, gold) == pytest.approx(score)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
def test_rouge_l_is_the_longest_common_subsequence(one: list[str], other: list[str]) -> None:
    def common(a: list[str], b: list[str]) -> int:
        if not a or not b:
            return 0
        return max(common(a[1:], b), common(a, b[1:]), (a[0] == b[0]) + common(a[1:], b[1:]))

    longest = common(one, other)
    expected = 2 * longest / (len(one) + len(other)) if longest else 0.0
    assert rouge_l(" ".join(one), " ".join(other)) == pytest.approx(expected)


def test_bleu_by_hand() -> None:
    said = ["the cat sat on the mat now", "it is hot"]
    assert bleu(said, said) == pytest.approx(1.0)
    # 6 words of 7: 6/6, 5/5, 4/4 and 3/3 n-grams are there, and it is one word short: exp(1 - 7/6)
    assert bleu(["the cat sat on the mat"], ["the cat sat on the mat now"]) == pytest.approx(math.exp(-1 / 6))
    assert bleu(["dogs"], ["cats"]) == 0.0


def test_distinct_and_repetition() -> None:
    assert distinct(["a b a", "b c"], 1) == 3 / 5
    assert distinct(["a b a", "a b"], 2) == 2 / 3
    assert distinct(["", "a"], 2) == 0.0
    assert repetition("go on and on and on and on", 2) == pytest.approx(4 / 7)
    assert repetition("nothing is said twice here") == 0.0
    assert repetition("") == 0.0


@given(texts, st.integers(1, 3))
def test_one_answer_is_distinct_where_it_does_not_repeat(text: str, n: int) -> None:
    if distinct([text], n):
        assert distinct([text], n) == pytest.approx(1 - repetition(text, n))
    assert distinct([text, text], n) == pytest.approx(distinct([text], n) / 2)


def test_support_counts_the_sentences_that_a_passage_holds() -> None:
    passage = Passage("p", "e.md", "Eggs", "Boil an egg for six minutes. Tea is hot.", 0, 40)
    assert support("Boil the egg for six minutes. Elephants fly at night.", [passage], "How?") == 0.5
    assert support("Boil the egg for six minutes.", [], "How?") == 0.0
    assert support("", [passage], "How?") == 0.0


def test_abstention_by_hand() -> None:
    assert abstention([True, True, False, False], [True, False, True, True]) == (1 / 2, 1 / 3)
    assert abstention([False], [True]) == (None, 0.0)
    assert abstention([True], [False]) == (0.0, None)
    assert abstention([False], [False]) == (None, None)
