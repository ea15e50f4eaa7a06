"""Calibrated abstention: the arithmetic held against brute force, the fit, the card, and the verdict."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Scripted

from rag_chat.assistant import ABSTENTION, Assistant
from rag_chat.conversation.abstention import (
    FEATURES,
    Calibration,
    auroc,
    best_threshold,
    features,
    fit_logistic,
    read_calibration,
    risk_coverage,
    sigmoid,
)
from rag_chat.conversation.verdict import QUOTED
from rag_chat.errors import ModelError, TrainingError
from rag_chat.generation.checkpoint import NEVER_ABSTAIN, keep_calibration, read_card
from rag_chat.generation.citations import Support
from rag_chat.retrieval.index import Index
from rag_chat.training.abstention import Trial, fit, try_out
from rag_chat.types import Dialogue, Generated, Hit, Message, Passage, Turn

rng = np.random.default_rng(0)
scored = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=12)
TALK = (
    Message("user", "Is boiling water right for green tea?"),
    Message("assistant", "Green tea is steeped at 75 degrees.", sources=("food/tea.md",)),
    Message("user", "Who invented tea bags?"),
    Message("assistant", "I could not find that.", abstained=True),
)


def trials(shift: float, count: int = 120) -> list[Trial]:
    """Half answerable, half not, their features `shift` standard deviations apart."""
    rows = rng.normal(size=(count, len(FEATURES))) + shift * (np.arange(count) % 2)[:, None]
    return [
        Trial(
            f"d{n // 2}",
            tuple(row.tolist()),
            answerable=bool(n % 2),
            natural=n % 4 < 3,
            answered=0.8 * (n % 2),
            quoted=0.5,
            withheld=1.0 - n % 2,
        )
        for n, row in enumerate(rows)
    ]


def test_the_fit_is_where_the_penalised_likelihood_is_highest() -> None:
    rows = rng.normal(size=(80, 3))
    good = rng.random(80) < sigmoid(rows @ [2.0, -1.0, 0.0])
    weights, intercept = fit_logistic(rows, good)

    def loss(solution: np.ndarray) -> float:
        p = sigmoid(rows @ solution[:3] + solution[3])
        return float(-np.log(np.where(good, p, 1 - p)).sum() + 0.5 * (solution[:3] ** 2).sum())

    found = np.array([*weights, intercept])
    for place, step in itertools.product(range(4), (-1e-3, 1e-3)):
        moved = found.copy()
        moved[place] += step
        assert loss(moved) > loss(found)


def test_separable_classes_do_not_break_the_fit() -> None:
    weights, _ = fit_logistic(np.array([[-1.0], [1.0]] * 20), np.array([False, True] * 20))
    assert np.isfinite(weights).all()
    assert weights[0] > 0


@given(scored)
def test_auroc_is_the_share_of_pairs_in_order(rows: list[tuple[int, bool]]) -> None:
    scores, good = np.array([float(s) for s, _ in rows]), np.array([g for _, g in rows])
    if good.all() or not good.any():
        return
    pairs = [(a, b) for a in scores[good] for b in scores[~good]]
    assert auroc(scores, good) == pytest.approx(np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs]))


@given(scored)
def test_the_threshold_is_the_best_there_is(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([(s + n / 100) / 6 for n, (s, _) in enumerate(rows)])  # no ties
    answered = np.array([float(g) for _, g in rows])

    def value(threshold: float) -> float:
        return float(np.where(scores >= threshold, answered, 1 - answered).sum())

    best = max(value(t) for t in [0.0, *(scores + 1e-9), 2.0])
    assert value(best_threshold(scores, answered, 1 - answered)) == best


def test_the_curve_ends_with_every_answer_given() -> None:
    curve = risk_coverage(np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, True, False, True]))
    assert curve[0] == (0.25, 0.0)
    assert curve[-1] == (1.0, 0.25)


@settings(max_examples=20)
@given(st.text(max_size=20), st.text(max_size=20), st.floats(-20, 0))
def test_features_are_numbers_whatever_is_said(question: str, said: str, likelihood: float) -> None:
    hit = Hit(Passage("p", "p", "", "Tea.", 0, 4), 0.5, 1, dense=0.5)
    known = features(Turn(question, query=question), [hit], Generated(said, likelihood), Support())
    assert len(known) == len(FEATURES)
    assert np.isfinite(known).all()


def test_classes_that_separate_get_a_threshold_and_others_do_not() -> None:
    clear, muddled = fit(trials(1.0)), fit(trials(0.0))
    assert clear.threshold is not None
    assert clear.auroc[1] <= clear.auroc[0] <= clear.auroc[2]
    assert clear.auroc[0] > 0.9
    assert muddled.threshold is None
    good, bad = trials(1.0)[1], trials(1.0)[0]
    assert clear.probability(good.known) > clear.probability(bad.known)


def test_what_is_quoted_lies_between_what_is_withheld_and_what_is_answered() -> None:
    """Turns of three kinds, from unlikely to likely: best withheld, best quoted, best answered."""
    best = ((0.0, 0.0, 1.0), (0.2, 0.6, 0.0), (0.9, 0.6, 0.0))
    rows = [
        Trial(f"d{n}", (n % 3 + 0.1 * rng.normal(),) * len(FEATURES), n % 3 > 0, True, *best[n % 3])
        for n in range(300)
    ]
    found = fit(rows)
    assert found.threshold is not None
    unlikely, likelier, likely = (found.probability((float(kind),) * len(FEATURES)) for kind in range(3))
    assert unlikely < found.threshold <= likelier < found.quote <= likely
    assert fit([replace(one, quoted=0.0) for one in rows]).quote == 0.0


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(TrainingError, match="abstain"):
        fit([one for one in trials(1.0) if one.answerable])


def test_the_card_keeps_it_and_gives_it_back(trained_reader: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained_reader, tmp_path / "reader"))
    assert read_calibration(folder) is None
    calibration = fit(trials(1.0))
    keep_calibration(folder, asdict(calibration))
    assert read_calibration(folder) == calibration
    kept = read_card(folder)
    assert kept is not None
    assert kept.abstain_bias == NEVER_ABSTAIN
    keep_calibration(folder, asdict(replace(calibration, threshold=None)))
    assert read_calibration(folder) is None
    kept = read_card(folder)
    assert kept is not None
    assert kept.abstain_bias == 0.0
    card = json.loads((folder / "rag_chat.json").read_text())
    card["abstention"] = {"threshold": 0.5}
    (folder / "rag_chat.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match="abstention"):
        read_calibration(folder)


def test_turns_are_tried_with_and_without_their_fact(tiny_index: Index) -> None:
    said = Scripted({TALK[0].content: "At 75 degrees.", TALK[2].content: "In 1908."})
    tried = try_out([Dialogue("d", TALK)], tiny_index, said, k=3)
    assert [(one.answerable, one.natural) for one in tried] == [(True, True), (False, True), (False, False)]
    absent = said.turns[2]
    assert absent.question == TALK[0].content
    assert not any("steeped at 75" in passage.text for passage in absent.passages)
    assert len(absent.passages) == 3


@pytest.mark.parametrize(("source", "named"), [("tea.md", True), ("ea.md", False)])
def test_a_source_is_named_by_whole_parts_of_its_path(tiny_index: Index, source: str, named: bool) -> None:
    reply = Message("assistant", "Ask at the counter.", sources=(source,))
    said = Scripted({TALK[0].content: "At 75 degrees."})
    tried = try_out([Dialogue("d", (TALK[0], reply))], tiny_index, said, k=3)
    assert tried[0].answerable is named


def test_what_is_too_unlikely_is_withheld(trained_reader: Path, tiny_index: Index, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained_reader, tmp_path / "reader"))
    width = len(FEATURES)
    certain = Calibration(
        (0.0,) * width, (1.0,) * width, (0.0,) * width, 0.0, 0.6, 0.0, (0.9, 0.8, 1.0), (), 9
    )
    keep_calibration(folder, asdict(certain))  # 50% sure of everything
    assistant = Assistant(tiny_index, folder, device="cpu")
    answer = assistant.ask(TALK[0].content)
    assert (answer.text, answer.abstained, answer.confidence) == (ABSTENTION, True, 0.5)
    assert "50% sure" in answer.reason
    *pieces, streamed = assistant.stream(TALK[0].content)
    assert "".join(map(str, pieces)) == ABSTENTION == streamed.text  # type: ignore[union-attr]
    keep_calibration(folder, asdict(replace(certain, threshold=0.4)))
    bold = Assistant(tiny_index, folder, device="cpu").ask(TALK[0].content)
    assert not bold.abstained
    assert bold.confidence == 0.5
    keep_calibration(folder, asdict(replace(certain, threshold=0.4, quote=0.51)))
    quoted = Assistant(tiny_index, folder, device="cpu").ask(TALK[0].content)
    assert quoted.text == Assistant(tiny_index, "extractive").ask(TALK[0].content).text != bold.text
    assert [citation.quote for citation in quoted.citations] == [quoted.text]
    assert quoted.reason == QUOTED
