"""The packed turn never exceeds its budget, and keeps what matters most."""

from __future__ import annotations

from dataclasses import replace

import models
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_chat.config import Skill
from rag_chat.generation.prompt import pack
from rag_chat.types import Message, Passage, Prompt, Turn

TOKENIZER = models.wordpiece()


def words(text: str) -> int:
    return len(text.split())


def pieces(text: str) -> int:
    return len(TOKENIZER(text, verbose=False).input_ids)


def passage(text: str, number: int = 0, context: str = "", *, dialogue: bool = False) -> Passage:
    kind = "dialogue" if dialogue else "topic"
    return Passage(f"p{number}", "s", "", text, 0, len(text), kind=kind, context=context)


texts = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from([*models.WORDS, "água", "日本語"]), max_size=12).map(" ".join),
)
turns = st.builds(
    Turn,
    texts,
    st.lists(st.builds(Message, st.sampled_from(["user", "assistant"]), texts), max_size=5).map(tuple),
    st.lists(st.builds(passage, texts, st.integers(0, 9), texts, dialogue=st.booleans()), max_size=4).map(
        tuple
    ),
)


@settings(max_examples=100, deadline=None)
@given(turns, st.integers(0, 60))
def test_never_exceeds_the_budget_in_words(turn: Turn, budget: int) -> None:
    assert words(pack(turn, budget=budget, count_tokens=words).text) <= budget


@settings(max_examples=60, deadline=None)
@given(turns, st.integers(2, 60))
def test_never_exceeds_the_budget_in_word_pieces(turn: Turn, budget: int) -> None:
    assert pieces(pack(turn, budget=budget, count_tokens=pieces).text) <= budget


@settings(max_examples=60, deadline=None)
@given(turns)
def test_all_is_kept_when_it_fits(turn: Turn) -> None:
    packed = pack(turn, budget=10_000, count_tokens=words)
    assert packed.dropped == ()
    for said in [turn.question, *(m.content for m in turn.history), *(p.text for p in turn.passages)]:
        assert " ".join(said.split()) in packed.text


@settings(max_examples=60, deadline=None)
@given(turns, st.integers(0, 60))
def test_each_thing_is_kept_or_dropped(turn: Turn, budget: int) -> None:
    packed = pack(turn, budget=budget, count_tokens=words)
    lines = packed.text.split("\n")
    lost = [line for line in packed.dropped if line.startswith("passage: ") and "its last" not in line]
    messages = [int(line.split()[3]) for line in packed.dropped if line.startswith("history: its oldest")]
    assert len(lines) == 1 + len(turn.passages) + len(turn.history) - len(lost) - sum(messages)


def test_format() -> None:
    turn = Turn(
        "And in\nwinter?",
        (Message("user", "When?"), Message("assistant", "In  May.")),
        (
            passage("Snow falls.", context="Alps > Winter"),
            passage("User: hi\nAssistant: hello", 1, "x", dialogue=True),
        ),
    )
    assert pack(turn, budget=100, count_tokens=words).text == (
        "question: And in winter?\nuser: When?\nassistant: In May.\n"
        "passage: Alps > Winter: Snow falls.\npassage: User: hi Assistant: hello"
    )


def test_the_question_comes_first_then_the_best_passages_then_recent_turns() -> None:
    history = tuple(Message("user", f"old{n} word") for n in range(4))
    turn = Turn("What?", history, (passage("a b c", 1), passage("d e f", 2)))
    kept = {b: pack(turn, budget=b, count_tokens=words) for b in range(1, 23)}
    assert kept[2].text == "question: What?"
    assert kept[2].dropped == ("passage: p1", "passage: p2", "history: its oldest 4 messages")
    assert kept[7].text == "question: What?\npassage: a b c"
    assert kept[7].dropped == ("passage: p2", "history: its oldest 4 messages")
    assert kept[16].text.split("\n")[1:3] == ["user: old2 word", "user: old3 word"]
    assert kept[16].dropped == ("history: its oldest 2 messages",)
    assert kept[22].dropped == ()


def test_the_best_passage_is_cut_where_it_does_not_fit() -> None:
    turn = Turn("What?", (), (passage("far too long " * 9, 1), passage("short", 2)))
    packed = pack(turn, budget=8, count_tokens=words)
    assert packed.text == "question: What?\npassage: far too long far too"
    assert packed.dropped == ("passage: p1, its last 22 words", "passage: p2")


def test_a_smaller_passage_takes_the_room_a_large_one_could_not() -> None:
    turn = Turn("What?", (), (passage("best", 0), passage("far too long " * 9, 1), passage("short", 2)))
    packed = pack(turn, budget=8, count_tokens=words)
    assert packed.text == "question: What?\npassage: best\npassage: short"
    assert packed.dropped == ("passage: p1",)


def test_the_last_message_is_cut_where_it_does_not_fit() -> None:
    turn = Turn("And?", (Message("user", "older"), Message("assistant", "a b c d")), (passage("w"),))
    packed = pack(turn, budget=7, count_tokens=words)
    assert packed.text == "question: And?\nassistant: a b\npassage: w"
    assert packed.dropped == ("history: its last message, its last 2 words", "history: its oldest 1 messages")


def test_the_last_exchange_holds_a_quarter_against_the_passages() -> None:
    history = (Message("user", "older " * 9), Message("user", "who is she"), Message("assistant", "a queen"))
    turn = Turn("When?", history, tuple(passage("w " * 9, n) for n in range(9)))
    packed = pack(turn, budget=40, count_tokens=words)
    assert "user: who is she\nassistant: a queen\n" in packed.text
    assert "history: its oldest 1 messages" in packed.dropped


@pytest.mark.parametrize(
    ("question", "kept", "dropped"),
    [
        ("one two three four", "question: one two", "question: its last 2 words"),
        ("supercalifragilistic " * 2, "question: supercalifragilistic supercalifragilistic", None),
    ],
)
def test_a_long_question_is_cut_at_its_end(question: str, kept: str, dropped: str | None) -> None:
    packed = pack(Turn(question), budget=3, count_tokens=words)
    assert packed.text == kept
    assert packed.dropped == ((dropped,) if dropped else ())


def test_a_long_question_without_spaces_is_cut_not_lost() -> None:
    packed = pack(Turn("日本の冬はどこで過ごすのがよいですか" * 9), budget=40, count_tokens=len)
    assert packed.text == ("question: " + "日本の冬はどこで過ごすのがよいですか" * 9)[:40]
    assert packed.dropped == ("question: its last 132 characters",)


# --- Skills -----------------------------------------------------------------------------------------

FOLLOW_UP = Turn(
    "And how long?",
    (Message("user", "Do I boil an egg?"), Message("assistant", "Yes, boil it.")),
    (models.EGGS,),
)
HISTORY = "user: Do I boil an egg?\nassistant: Yes, boil it."
EGGS = "passage: Eggs: Boil an egg for six minutes."


@pytest.mark.parametrize(
    ("skill", "text"),
    [
        ("answer", f"question: And how long?\n{HISTORY}\n{EGGS}"),
        ("rewrite", f"rewrite: And how long?\n{HISTORY}"),
        ("unanswerable", f"answerable: And how long?\n{HISTORY}\n{EGGS}"),
    ],
)
def test_the_first_word_tells_the_task(skill: Skill, text: str) -> None:
    packed = pack(FOLLOW_UP, budget=99, count_tokens=words, skill=skill)
    assert packed == Prompt(text)


@settings(max_examples=60, deadline=None)
@given(turns, st.integers(0, 60))
def test_a_rewrite_keeps_the_budget_and_reads_no_passage(turn: Turn, budget: int) -> None:
    packed = pack(turn, budget=budget, count_tokens=words, skill="rewrite")
    assert words(packed.text) <= budget
    without = replace(turn, passages=())
    assert packed == pack(without, budget=budget, count_tokens=words, skill="rewrite")
