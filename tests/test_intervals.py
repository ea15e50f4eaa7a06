"""Bootstrap intervals over conversations."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_chat.evaluation.intervals import mean_interval, paired_interval

scored = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=30)
quick = settings(max_examples=40, deadline=None)


@quick
@given(scored, st.integers(0, 3))
def test_it_holds_the_mean_and_is_the_same_each_time(turns: list[tuple[float, int]], seed: int) -> None:
    scores, groups = [score for score, _ in turns], [group for _, group in turns]
    mean, low, high = mean_interval(scores, groups, seed=seed, resamples=100)
    assert mean == pytest.approx(sum(scores) / len(scores))
    assert min(scores) - 1e-9 <= low <= mean <= high <= max(scores) + 1e-9
    assert mean_interval(scores, groups, seed=seed, resamples=100) == (mean, low, high)


@quick
@given(scored)
def test_what_a_group_is_called_does_not_matter(turns: list[tuple[float, int]]) -> None:
    scores, groups = [score for score, _ in turns], [group for _, group in turns]
    named = [f"conversation {group}" for group in groups]
    assert mean_interval(scores, groups, resamples=50) == mean_interval(scores, named, resamples=50)


@quick
@given(scored, st.floats(-1, 1))
def test_a_constant_gain_has_no_spread(turns: list[tuple[float, int]], gain: float) -> None:
    scores, groups = [score for score, _ in turns], [group for _, group in turns]
    found = paired_interval([score + gain for score in scores], scores, groups, resamples=50)
    assert found == pytest.approx((gain, gain, gain), abs=1e-9)


@quick
@given(scored, st.data())
def test_pairs_the_other_way_round_are_the_negative(
    turns: list[tuple[float, int]], data: st.DataObject
) -> None:
    ours, groups = [score for score, _ in turns], [group for _, group in turns]
    theirs = data.draw(st.lists(st.floats(0, 1), min_size=len(ours), max_size=len(ours)))
    mean, low, high = paired_interval(ours, theirs, groups, resamples=200)
    assert paired_interval(theirs, ours, groups, resamples=200) == pytest.approx((-mean, -high, -low))


def test_it_is_about_two_standard_errors() -> None:
    mean, low, high = mean_interval([0.0, 1.0] * 50)
    assert mean == 0.5
    assert (high - low) / 2 == pytest.approx(1.96 * 0.05, rel=0.1)


def test_turns_of_one_conversation_are_drawn_together() -> None:
    """Ten conversations whose ten turns all score the same are ten facts, not a hundred."""
    scores = [float(group % 2) for group in range(10) for _ in range(10)]
    groups = [group for group in range(10) for _ in range(10)]
    _, low, high = mean_interval(scores, groups)
    _, narrow_low, narrow_high = mean_interval(scores)
    assert high - low == pytest.approx(math.sqrt(10) * (narrow_high - narrow_low), rel=0.15)


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    """Of 200 samples of 40 conversations of 3 like turns, the mean lies inside in about 95%."""
    import numpy as np

    rng = np.random.default_rng(1)
    groups = [group for group in range(40) for _ in range(3)]
    inside = 0
    for _ in range(200):
        each = np.repeat(rng.normal(0.3, 1.0, 40), 3) + rng.normal(0.0, 0.3, 120)
        _, low, high = mean_interval(each.tolist(), groups, resamples=300)
        inside += low <= 0.3 <= high
    assert 0.90 <= inside / 200 <= 0.98


@pytest.mark.parametrize("scores", [[], [math.nan], [1.0, math.inf]])
def test_what_is_no_score_is_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_interval(scores)


def test_every_score_has_its_group() -> None:
    with pytest.raises(ValueError, match="2 scores, and 1 groups"):
        mean_interval([0.0, 1.0], ["a"])
