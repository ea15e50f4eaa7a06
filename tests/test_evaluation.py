"""Held-out dialogues put to arms."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import Scripted

from rag_chat.assistant import Assistant
from rag_chat.corpus.identity import conversation_hash
from rag_chat.errors import ModelError, UsageError
from rag_chat.evaluation.arms import Arm, answers
from rag_chat.evaluation.cases import cases, check_training
from rag_chat.evaluation.report import report_json, turns_csv
from rag_chat.evaluation.run import EvalReport, evaluate
from rag_chat.evaluation.scores import risk_coverage
from rag_chat.evaluation.verdict import verdict
from rag_chat.generation.prompt import UNANSWERABLE
from rag_chat.retrieval.index import Index
from rag_chat.types import Dialogue, Message

TEA = "How hot is the water for green tea?"
MAYOR = "Who is the mayor?"
HELD_OUT = Dialogue(
    "held-out",
    (
        Message("user", TEA),
        Message("assistant", "Steep green tea at 75 degrees.", sources=("tea.md",)),
        Message("user", MAYOR),
        Message("assistant", "I could not find that.", abstained=True),
    ),
    topic="food",
)
GOOD = {TEA: "Steep green tea at 75 degrees", MAYOR: UNANSWERABLE}
BAD = {TEA: UNANSWERABLE, MAYOR: "Green tea."}


def run(arms: dict[str, Arm], *dialogues: Dialogue) -> EvalReport:
    return evaluate(dialogues or [HELD_OUT], arms, timed=1)


def arm(index: Index, say: dict[str, str]) -> Arm:
    return Arm(Assistant(index, Scripted(say), k=13))


def test_cases_keep_the_history_as_written() -> None:
    first, second = cases(HELD_OUT)
    assert first.request.history == ()
    assert second.request.history == HELD_OUT.messages[:2]
    assert second.reply.abstained
    assert [(case.id, case.depth, case.topic) for case in (first, second)] == [
        ("held-out/1", 1, "food"),
        ("held-out/2", 2, "food"),
    ]


def test_scores_by_hand(tiny_index: Index) -> None:
    report = run({"good": arm(tiny_index, GOOD), "bad": arm(tiny_index, BAD)})
    assert (len(report.turns), report.conversations, report.grounded, report.k) == (2, 1, 1, 13)
    assert report.retrieval["recall@20"] == (1.0, 1.0, 1.0)
    best, worst = report.arms["good"], report.arms["bad"]
    for name in ("f1", "exact_match", "rouge_l", "f1_grounded", "support"):
        assert getattr(best, name) == (1.0, 1.0, 1.0)
    assert (best.bleu, best.abstained_wrongly) == (pytest.approx(math.exp(-1 / 6)), 0.0)  # the stop is a word
    assert (best.abstention_precision, best.abstention_recall) == (1.0, 1.0)
    assert worst.f1 == (0.0, 0.0, 0.0)
    assert (worst.abstention_precision, worst.abstention_recall, worst.abstained_wrongly) == (0.0, 0.0, 1.0)
    assert best.by_depth == {"1": (1.0, 1.0, 1.0), "2": (1.0, 1.0, 1.0)}
    assert best.by_topic == {"food": (1.0, 1.0, 1.0)}
    assert best.latency_ms is not None
    assert 0 < best.latency_ms.p50 <= best.latency_ms.p95
    assert report.differences == {"bad": (1.0, 1.0, 1.0)}


def test_the_report_is_the_same_each_time_but_for_the_clock(tiny_index: Index) -> None:
    def once() -> str:
        report = report_json(run({"good": arm(tiny_index, GOOD), "bad": arm(tiny_index, BAD)}))
        for one in report["arms"].values():
            assert one.pop("latency_ms")["turns"] == 1
        return json.dumps(report)

    assert once() == once()


def test_a_model_alone_is_asked_without_passages(tiny_index: Index) -> None:
    model = Scripted(GOOD | {MAYOR: f"{UNANSWERABLE}!"})
    first, second = answers(Arm(Assistant(tiny_index, model), "none"), cases(HELD_OUT))
    assert [turn.passages for turn in model.turns] == [(), ()]
    assert model.turns[1].history == HELD_OUT.messages[:2]
    assert (first.text, first.citations, first.abstained) == (GOOD[TEA], (), False)
    assert second.abstained


def test_gold_passages_are_those_of_the_documents_named(tiny_index: Index) -> None:
    model = Scripted(GOOD)
    answers(Arm(Assistant(tiny_index, model, k=2), "gold"), cases(HELD_OUT))
    assert {passage.source for passage in model.turns[0].passages} == {"food/tea.md"}
    assert len({passage.source for passage in model.turns[1].passages}) == 2  # found, as in service


def test_csv_has_a_row_for_each_turn_and_arm(tiny_index: Index) -> None:
    report = report_json(run({"good": arm(tiny_index, GOOD), "bad": arm(tiny_index, BAD)}))
    header, *rows = turns_csv(report).splitlines()
    assert len(rows) == 4
    assert {"dialogue", "depth", "topic", "arm", "text", "f1", "recall@5"} <= set(header.split(","))


def test_the_worst_come_first_with_their_trace(tiny_index: Index) -> None:
    report = report_json(run({"mixed": arm(tiny_index, {TEA: GOOD[TEA], MAYOR: "Green tea."})}))
    assert [turn["question"] for turn in report["worst"]] == [MAYOR, TEA]
    assert report["worst"][0]["passages"]
    assert report["worst"][0]["history"][0] == {"role": "user", "content": TEA}


# --- What is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["d-eggs", "renamed"])
def test_a_conversation_in_the_index_is_refused(tiny_index: Index, name: str) -> None:
    messages = (
        Message("user", "How long do I boil an egg?"),
        Message("assistant", "Six  minutes, for a SOFT yolk."),
    )
    with pytest.raises(UsageError, match="d-eggs") as caught:
        run({"x": arm(tiny_index, GOOD)}, Dialogue(name, messages))
    assert "rag-chat index rm" in caught.value.fix


def test_nothing_to_score_is_refused(tiny_index: Index) -> None:
    with pytest.raises(UsageError, match="nothing to evaluate"):
        run({"x": arm(tiny_index, GOOD)}, Dialogue("d", (Message("user", "Hello?"),)))


def test_documents_that_are_not_there_are_refused(tiny_index: Index) -> None:
    question, reply = HELD_OUT.messages[:2]
    lost = Dialogue("lost", (question, replace(reply, sources=("tea.md", "coffee.md"))))
    with pytest.raises(UsageError, match=r"1 of the 2 documents .*'coffee.md' \(in 'lost'\)") as caught:
        run({"x": arm(tiny_index, GOOD)}, lost)
    assert "rag-chat index add" in caught.value.fix


def test_a_model_trained_on_the_conversation_is_refused(tmp_path: Path) -> None:
    check_training([HELD_OUT], tmp_path)  # nothing is known of it
    record = tmp_path / "training.json"
    record.write_text(json.dumps({"trained_on": [conversation_hash(HELD_OUT)]}))
    with pytest.raises(UsageError, match="trained on 1 of these conversations, 'held-out'"):
        check_training([HELD_OUT], tmp_path)
    check_training([replace(HELD_OUT, messages=HELD_OUT.messages[:2])], tmp_path)
    record.write_text("[")
    with pytest.raises(ModelError, match="damaged"):
        check_training([HELD_OUT], tmp_path)


def test_a_conversation_is_known_by_what_is_said() -> None:
    same = Dialogue("other", HELD_OUT.messages, metadata={"topic": "x"})
    assert conversation_hash(same) == conversation_hash(HELD_OUT)
    assert conversation_hash(replace(same, messages=same.messages[:3])) != conversation_hash(HELD_OUT)


# --- Curves and conclusions ------------------------------------------------------------------------


def test_risk_and_coverage_by_hand() -> None:
    curve = risk_coverage([0.9, 0.5, 0.5, 0.1], [1.0, 1.0, 0.0, 0.0])
    assert curve == ((0.25, 0.0), (0.75, pytest.approx(1 / 3)), (1.0, 0.5))


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.3, 1.0]), st.floats(0, 1)), min_size=1, max_size=20))
def test_risk_ends_at_all_turns(turns: list[tuple[float, float]]) -> None:
    curve = risk_coverage([sure for sure, _ in turns], [f1 for _, f1 in turns])
    assert [coverage for coverage, _ in curve] == sorted({coverage for coverage, _ in curve})
    assert curve[-1] == (1.0, pytest.approx(1 - sum(f1 for _, f1 in turns) / len(turns)))


@pytest.mark.parametrize(
    ("differences", "says"),
    [
        ({"base": (0.061, 0.04, 0.083)}, "Tuning raised F1 by 6.1 [4.0, 8.3]"),
        ({"base": (-0.02, -0.03, -0.01)}, "Tuning lowered F1 by 2.0 [1.0, 3.0]"),
        ({"base": (0.01, -0.01, 0.03)}, "Tuning did not help measurably (F1 +1.0 [-1.0, +3.0])"),
        ({"extractive": (0.1, 0.05, 0.2)}, "Base is 10.0 [5.0, 20.0] points of F1 above the extractive"),
        ({"gold": (-0.1, -0.2, -0.05)}, "in 83% of grounded turns: that is the limit now"),
        ({"gold": (0.0, -0.1, 0.1)}, "the reader is the limit now"),
        ({"no-retrieval": (0.2, 0.1, 0.3)}, "Retrieval raised F1 by 20.0 [10.0, 30.0]; retrieval finds"),
    ],
)
def test_the_verdict_says_no_more_than_the_intervals(
    differences: dict[str, tuple[float, float, float]], says: str
) -> None:
    assert says in verdict("base", differences, {"recall@5": (0.83, 0.8, 0.86)}, 5)


def test_an_arm_alone_has_no_verdict() -> None:
    assert verdict("base", {}, {}, 5) == "Base stands alone: there is nothing to compare it with."
