"""Gates: which scores fall short, and which fell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rag_chat.errors import UsageError
from rag_chat.evaluation.gates import changes, read_report, regressions, scores_of, shortfalls


def report(f1: list[float], recall: list[float]) -> dict[str, Any]:
    """A report of one-turn conversations, as `report_json` writes it."""
    arm = {
        "f1": [sum(f1) / len(f1), 0.0, 1.0],
        "bleu": 0.2,
        "latency_ms": {"p50": 9.0, "p95": 20.0, "turns": 3},
        "by_depth": {"1": [0.1, 0.0, 0.2]},
        "support": None,
    }
    turns = [
        {
            "dialogue": f"d{i}",
            "depth": 1,
            "retrieval": {"recall@5": found},
            "answers": {"base": {"f1": right, "exact_match": 0.0, "rouge_l": right}},
        }
        for i, (right, found) in enumerate(zip(f1, recall, strict=True))
    ]
    retrieval = {"recall@5": [sum(recall) / len(recall), 0.0, 1.0]}
    return {"main": "base", "retrieval": retrieval, "arms": {"base": arm}, "turns": turns}


GOOD = report([0.9] * 20, [1.0] * 20)
BAD = report([0.4, 0.5] * 10, [1.0] * 20)


def test_scores_have_names() -> None:
    assert scores_of(GOOD) == {
        "recall@5": 1.0,
        "f1": pytest.approx(0.9),
        "bleu": 0.2,
        "latency_p50": 9.0,
        "latency_p95": 20.0,
        "latency_turns": 3.0,
        "base.f1": pytest.approx(0.9),
        "base.bleu": 0.2,
        "base.latency_p50": 9.0,
        "base.latency_p95": 20.0,
        "base.latency_turns": 3.0,
    }


def test_a_score_at_the_least_is_enough() -> None:
    assert shortfalls(GOOD, {"recall@5": "1.0"}) == []
    assert shortfalls(BAD, {"f1": "0.5", "recall@5": "0.8"}) == ["f1 is 0.45, below 0.5"]


@pytest.mark.parametrize(
    ("least", "problem", "fix"),
    [
        ({"recal@5": "0.8"}, "no score 'recal@5'", "Did you mean 'recall@5'"),
        ({"f1": "high"}, "not a number", "0.8"),
        ({"f1": "nan"}, "not a number", "0.8"),
    ],
)
def test_a_gate_that_cannot_be_read_is_refused(least: dict[str, str], problem: str, fix: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        shortfalls(GOOD, least)
    assert fix in caught.value.fix


def test_what_fell_beyond_chance_is_a_regression() -> None:
    fell = regressions(changes(GOOD, BAD))
    assert [line.split()[0] for line in fell] == ["f1", "rouge_l"]
    assert "f1 fell by 0.4500 [" in fell[0]
    assert regressions(changes(BAD, GOOD)) == regressions(changes(GOOD, GOOD)) == []


def test_chance_is_no_regression() -> None:
    assert regressions(changes(GOOD, report([0.9] * 19 + [0.8], [1.0] * 20))) == []


def test_reports_of_other_turns_are_refused() -> None:
    with pytest.raises(UsageError, match="1 are in one report only"):
        changes(GOOD, report([0.9] * 19, [1.0] * 19))


@pytest.mark.parametrize("text", [None, "{", "[]", json.dumps({"turns": []})])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "old.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match="is not a report of this evaluation"):
        read_report(path)
