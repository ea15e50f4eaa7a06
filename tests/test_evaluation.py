"""Held-out dialogues put to assistants."""

from __future__ import annotations

import pytest
from models import Scripted

from rag_chat.assistant import Assistant
from rag_chat.errors import UsageError
from rag_chat.evaluation.run import cases, evaluate
from rag_chat.generation.prompt import UNANSWERABLE
from rag_chat.retrieval.index import Index
from rag_chat.types import Dialogue, Message

TEA = "How hot is the water for green tea?"
HELD_OUT = Dialogue(
    "held-out",
    (
        Message("user", TEA),
        Message("assistant", "Steep green tea at 75 degrees.", sources=("tea.md",)),
        Message("user", "Who is the mayor?"),
        Message("assistant", "I could not find that.", abstained=True),
    ),
)


def test_cases_keep_the_history_as_written() -> None:
    first, second = cases(HELD_OUT)
    assert first.request.history == ()
    assert second.request.history == HELD_OUT.messages[:2]
    assert second.reply.abstained


def test_scores_by_hand(tiny_index: Index) -> None:
    good = Assistant(
        tiny_index, Scripted({TEA: "Steep green tea at 75 degrees", "Who is the mayor?": UNANSWERABLE}), k=13
    )
    bad = Assistant(tiny_index, Scripted({TEA: UNANSWERABLE, "Who is the mayor?": "Green tea."}), k=13)
    report = evaluate([HELD_OUT], {"bad": bad, "good": good})
    assert (report.turns, report.dialogues, report.recall) == (2, 1, 1.0)
    best, worst = report.arms["good"], report.arms["bad"]
    assert best.f1 == (1.0, 1.0, 1.0)
    assert best.abstained_rightly == 1.0
    assert best.abstained_wrongly == 0.0
    assert worst.f1 == (0.0, 0.0, 0.0)
    assert worst.abstained_wrongly == 1.0
    assert best.against_first[0] == 1.0
    assert worst.against_first == (0.0, 0.0, 0.0)


def test_a_conversation_in_the_index_is_refused(tiny_index: Index) -> None:
    leaked = Dialogue("d-eggs", HELD_OUT.messages)
    with pytest.raises(UsageError, match="d-eggs"):
        evaluate([leaked], {"x": Assistant(tiny_index, "extractive")})


def test_nothing_to_score_is_refused(tiny_index: Index) -> None:
    with pytest.raises(UsageError, match="nothing to evaluate"):
        evaluate([], {"x": Assistant(tiny_index, "extractive")})
