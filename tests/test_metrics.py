"""Scores against values worked out by hand, and what must hold for any text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_chat.evaluation.metrics import exact_match, mean_interval, normalise, token_f1

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


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 3))
def test_the_interval_holds_the_mean_and_is_the_same_each_time(scores: list[float], seed: int) -> None:
    mean, low, high = mean_interval(scores, seed=seed, resamples=100)
    assert mean == pytest.approx(sum(scores) / len(scores))
    assert min(scores) - 1e-9 <= low <= mean <= high <= max(scores) + 1e-9
    assert mean_interval(scores, seed=seed, resamples=100) == (mean, low, high)


def test_the_interval_is_about_two_standard_errors() -> None:
    mean, low, high = mean_interval([0.0, 1.0] * 50)
    assert mean == 0.5
    assert (high - low) / 2 == pytest.approx(1.96 * 0.05, rel=0.1)


def test_no_scores() -> None:
    with pytest.raises(ValueError, match="no scores"):
        mean_interval([])
