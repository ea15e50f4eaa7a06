"""Memory with consent: past sessions are found by their owner alone, and what is removed is gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from models import Scripted

from rag_chat.assistant import Assistant
from rag_chat.conversation.memory import FOLDER, with_memories
from rag_chat.errors import SessionError
from rag_chat.retrieval.index import Index
from rag_chat.types import Hit, Passage

TEA = "How hot is the water for green tea?"
SAID = "Quicksilver likes hers at 75 degrees."
AGAIN = "How hot is the water for green tea again?"


@pytest.fixture
def assistant(tiny_index: Index, tmp_path: Path) -> Assistant:
    scripted = Scripted({TEA: SAID, AGAIN: SAID})
    return Assistant(tiny_index, scripted, k=5, sessions=tmp_path / "home" / "sessions.sqlite")


def recalled(assistant: Assistant, owner: str, *, remember: bool = True, name: str = "now") -> list[str]:
    """The texts of the exchanges that a question of this owner finds in earlier conversations."""
    answer = assistant.session(name, owner=owner, remember=remember).ask(AGAIN)
    return [hit.passage.text for hit in answer.hits if hit.passage.title == "An earlier conversation"]


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_past_sessions_are_found_by_their_owner_alone(assistant: Assistant) -> None:
    assistant.session("before", owner="anna").ask(TEA)
    (found,) = recalled(assistant, "anna")
    assert SAID in found
    assert recalled(assistant, "ben") == []
    assert recalled(assistant, "") == []


def test_without_consent_nothing_is_indexed_or_found(assistant: Assistant, tmp_path: Path) -> None:
    assistant.session("before").ask(TEA)
    assert recalled(assistant, "", remember=False) == []
    assert not (tmp_path / "home" / FOLDER).exists()


def test_the_current_session_is_no_memory_of_itself(assistant: Assistant) -> None:
    assistant.session("now").ask(TEA)
    assert recalled(assistant, "") == []


def test_a_removed_session_leaves_no_byte(assistant: Assistant, tmp_path: Path) -> None:
    store = assistant.store("anna")
    assistant.session("before", owner="anna").ask(TEA)
    assert recalled(assistant, "anna")  # and so its text is in the trace of this one
    assert b"Quicksilver" in bytes_of(tmp_path / "home" / FOLDER)
    store.append_turn("now", "unrelated", replace(assistant.ask(TEA), text="ok", prompt="", hits=()))
    store.remove("before")
    assert b"uicksilver" not in bytes_of(tmp_path / "home" / FOLDER).lower()  # text and words
    with Index.open(next((tmp_path / "home" / FOLDER).glob("*"))) as index:
        assert index.info()["passages"] == 0
    assert all("User: " + TEA not in trace["prompt"] for trace in store.traces("now"))
    assert all(hit["title"] != "An earlier conversation" for t in store.traces("now") for hit in t["hits"])
    with pytest.raises(SessionError):
        store.export("before")


def test_a_memory_whose_making_was_killed_is_made_again(assistant: Assistant, tmp_path: Path) -> None:
    assistant.session("before").ask(TEA)
    assert recalled(assistant, "")
    (folder,) = (tmp_path / "home" / FOLDER).glob("*")
    for file in folder.iterdir():
        file.unlink()
    assert recalled(assistant, "")
    for file in folder.iterdir():
        file.unlink()
    assistant.store().remove("before")


def test_a_memory_takes_the_place_of_what_is_less_near() -> None:
    def hit(name: str, dense: float) -> Hit:
        return Hit(Passage(name, name, "", name, 0, 1), dense, 1, dense=dense)

    found = [hit("a", 0.8), hit("b", 0.4), hit("c", 0.6)]
    merged = with_memories(found, [hit("m", 0.7), hit("n", 0.5)], 4)
    assert [one.passage.id for one in merged] == ["a", "m", "n", "b"]
    assert [one.rank for one in merged] == [1, 2, 3, 4]
