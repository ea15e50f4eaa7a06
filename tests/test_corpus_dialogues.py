"""Conversations in every format become the same dialogues."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rag_chat.corpus import read_sources
from rag_chat.types import Dialogue, Document, Message, Skipped

TURNS = (Message("user", "Where is Rome?"), Message("assistant", "In Italy."))


def read(tmp_path: Path, name: str, content: str, columns: dict[str, str] | None = None) -> list[Dialogue]:
    path = tmp_path / name
    path.write_text(content)
    found = list(read_sources([path], on_error="fail", columns=columns))
    assert all(isinstance(item, Dialogue) for item in found)
    return [item for item in found if isinstance(item, Dialogue)]


def test_chat_lines(tmp_path: Path) -> None:
    line = {
        "id": "trip-1",
        "topic": "travel",
        "metadata": {"lang": "en"},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Where is Rome?"}]},
            {
                "role": "assistant",
                "content": "In Italy.",
                "sources": ["topics/rome.md"],
                "passages": [{"text": "Rome is in Italy.", "title": "Rome"}],
            },
            {"role": "user", "content": "And Oz?"},
            {"role": "assistant", "content": "I do not know.", "abstained": True},
        ],
    }
    [dialogue] = read(tmp_path, "d.jsonl", json.dumps(line))
    assert (dialogue.id, dialogue.topic) == ("trip-1", "travel")
    assert dialogue.metadata == {"lang": "en", "topic": "travel"}
    assert [message.role for message in dialogue.messages] == [
        *("system", "user", "assistant", "user", "assistant")
    ]
    assert dialogue.messages[1] == TURNS[0]
    reply = dialogue.messages[2]
    assert reply.sources == ("topics/rome.md",)
    [passage] = reply.passages
    assert (passage.id, passage.source, passage.title) == ("given#0", "given#0", "Rome")
    assert (passage.text, passage.start, passage.end) == ("Rome is in Italy.", 0, 17)
    assert [message.abstained for message in dialogue.messages] == [False] * 4 + [True]


def test_lines_decide_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_text(
        '{"text": "A document"}\n'
        '{"messages": [{"role": "user", "content": "Hi"}]}\n'
        '{"conversations": [{"from": "human", "value": "Hi"}]}\n'
    )
    document, chat, sharegpt = read_sources([path])
    assert isinstance(document, Document)
    assert isinstance(chat, Dialogue)
    assert isinstance(sharegpt, Dialogue)
    assert [document.source, chat.id, sharegpt.id] == [f"mixed.jsonl#{n}" for n in (1, 2, 3)]
    assert chat.messages == sharegpt.messages == (Message("user", "Hi"),)
    assert chat.metadata == {"topic": tmp_path.name}


@pytest.mark.parametrize(("user", "assistant"), [("human", "gpt"), ("user", "assistant")])
def test_sharegpt_json(tmp_path: Path, user: str, assistant: str) -> None:
    turns = [{"from": user, "value": "Where is Rome?"}, {"from": assistant, "value": "In Italy."}]
    records = [{"id": "a", "conversations": turns}, {"conversations": turns}]
    first, second = read(tmp_path, "s.json", json.dumps(records))
    assert (first.id, second.id) == ("a", "s.json#2")
    assert first.messages == second.messages == TURNS


def test_chatterbot_yaml(tmp_path: Path) -> None:
    text = (
        "categories:\n- AI\n- more\nconversations:\n"
        "- - What is 2 + 2?\n  - 4\n- - Sure?\n  - Yes\n  - Really?\n"
    )
    first, second = read(tmp_path, "ai.yml", text)
    assert (first.id, first.topic, first.metadata) == ("ai.yml#1", "AI", {"topic": "AI"})
    assert [message.content for message in first.messages] == ["What is 2 + 2?", "4"]
    assert [message.role for message in second.messages] == ["user", "assistant", "user"]
    assert second.messages[1].content == "Yes"


@pytest.mark.parametrize(("a", "b"), [("A", "B"), ("User", "Assistant"), ("Human", "Bot")])
def test_tagged_text(tmp_path: Path, a: str, b: str) -> None:
    text = f"{a}: Where is Rome?\n{b}: In Italy.\n\n{a}: List two.\n{b}: Well:\n  one\n\ttwo\n"
    first, second = read(tmp_path, "talk.txt", text)
    assert (first.id, second.id) == ("talk.txt#1", "talk.txt#2")
    assert first.messages == TURNS
    assert second.messages[1].content == "Well:\none\ntwo"


@pytest.mark.parametrize(
    "text",
    ["A: one\nA: two\n", "A: one\n", "  B: x\nA: y\nB: z", "A: q\nB: r\nAnd then it went on.\n"],
)
def test_other_text_stays_a_document(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.txt").write_text(text)
    [item] = read_sources([tmp_path / "t.txt"])
    assert isinstance(item, Document)
    assert item.text == text


def test_csv_of_questions(tmp_path: Path) -> None:
    table = "Question,Answer,topic,level\nWhere is Rome?,In Italy.,travel,easy\n"
    [dialogue] = read(tmp_path, "faq.csv", table)
    assert dialogue == Dialogue("faq.csv#1", TURNS, "travel", {"level": "easy", "topic": "travel"})
    mapped = {"question": "frage", "answer": "antwort"}
    [dialogue] = read(tmp_path, "faq.csv", "antwort;frage\nIn Italy.;Where is Rome?\n", mapped)
    assert dialogue.messages == TURNS


def test_csv_of_turns(tmp_path: Path) -> None:
    table = (
        "id,speaker,text\nx,user,Where is Rome?\nx,bot,In Italy.\n"
        "y,Human,Where is Rome?\ny,Assistant,In Italy.\n"
    )
    first, second = read(tmp_path, "turns.csv", table)
    assert (first.id, second.id) == ("x", "y")
    assert first.messages == second.messages == TURNS
    mapped = {"dialogue": "c", "role": "r", "content": "t"}
    [dialogue] = read(tmp_path, "m.csv", "t,r,c\nWhere is Rome?,a,1\nIn Italy.,b,1\n", mapped)
    assert (dialogue.id, dialogue.messages) == ("1", TURNS)


def test_an_id_that_is_taken_is_reported(tmp_path: Path) -> None:
    line = '{"id": 7, "messages": [{"role": "user", "content": "Hi"}]}\n'
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(line * 2)
    skipped: list[Skipped] = []
    [only] = read_sources([tmp_path], skipped=skipped)
    assert isinstance(only, Dialogue)
    assert only.id == "7"
    assert [(Path(one.source).name, one.line) for one in skipped] == [
        ("a.jsonl", 2),
        ("b.jsonl", 1),
        ("b.jsonl", 2),
    ]
    assert "'7' is already taken" in skipped[0].reason
    assert skipped[0].reason.endswith("a.jsonl, line 1")
