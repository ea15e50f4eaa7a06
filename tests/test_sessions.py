"""Conversations on disk: what is stored and what is not, order, deletion, kills and damage."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rag_chat
from rag_chat.conversation.sessions import SessionInfo, SessionStore, default_path, new_session_id
from rag_chat.corpus import read_sources
from rag_chat.corpus.writing import write_dialogues
from rag_chat.errors import SessionError, UsageError
from rag_chat.types import Answer, Citation, Dialogue, Hit, Message, Passage

ROOT = Path(rag_chat.__file__).parents[1]
PASSAGE = Passage("p1", "travel/lights.md", "Lights", "Retrieved: they glow over Tromsø.", 0, 33)
ANSWER = Answer(
    text="They glow over Tromsø.",
    citations=(
        Citation("p1", "travel/lights.md", "Lights", "they glow", 11, 20, 0.9),
        Citation("p1", "travel/lights.md", "Lights", "over Tromsø", 21, 32, 0.8),
    ),
    query="northern lights where",
    abstained=False,
    reason="",
    hits=(Hit(PASSAGE, 0.5, 1, dense=0.75),),
    model="reader",
    session="trip",
    timings_ms={"search": 1.5},
    prompt="question: where context: Retrieved: they glow over Tromsø.",
    dropped=("p2",),
)
REFUSAL = replace(ANSWER, text="I could not find that.", citations=(), abstained=True, reason="no evidence")

# Appends turns "0", "1", ... to a session and says after each one that it is stored.
WRITER = """
import sys
from pathlib import Path
from rag_chat.conversation.sessions import SessionStore
from rag_chat.types import Answer
path, session, name, count = sys.argv[1:]
answer = Answer("yes", (), "", False, "", (), "reader", session, {})
store = SessionStore(Path(path))
for i in range(int(count)):
    print(store.append_turn(session, f"{name} {i}", answer), flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(tmp_path / "new" / "sessions.sqlite")


def writer(path: Path, session: str, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), session, name, str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def bytes_of(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


def questions(store: SessionStore, session: str) -> list[str]:
    return [message.content for message in store.history(session) if message.role == "user"]


def test_history_holds_what_was_said_and_nothing_retrieved(store: SessionStore) -> None:
    assert store.append_turn("trip", "Where?", ANSWER) == 1
    assert store.append_turn("trip", "Who won?", REFUSAL) == 2
    history = store.history("trip")
    assert history == (
        Message("user", "Where?"),
        Message("assistant", "They glow over Tromsø.", sources=("travel/lights.md",)),
        Message("user", "Who won?"),
        Message("assistant", "I could not find that.", abstained=True),
    )
    assert "Retrieved" not in repr(history)


def test_trace_tells_how_each_turn_was_answered(store: SessionStore) -> None:
    assert store.last_answer("trip") is None
    score = Hit(PASSAGE, float(np.float32(0.5)), 1, dense=np.float32(0.75))  # type: ignore[arg-type]
    store.append_turn("trip", "Where?", replace(ANSWER, hits=(score,)))
    store.append_turn("trip", "Who won?", REFUSAL)
    first, last = store.traces("trip")
    assert first["hits"] == [
        {
            "passage_id": "p1",
            "source": "travel/lights.md",
            "title": "Lights",
            "score": 0.5,
            "dense": 0.75,
            "lexical": None,
        }
    ]
    assert [citation["quote"] for citation in first["citations"]] == ["they glow", "over Tromsø"]
    assert (first["turn"], first["question"], first["answer"]) == (1, "Where?", ANSWER.text)
    assert (first["query"], first["model"], first["prompt"]) == (ANSWER.query, "reader", ANSWER.prompt)
    assert (first["dropped"], first["timings_ms"]) == (["p2"], {"search": 1.5})
    assert last == store.last_answer("trip")
    assert (last["abstained"], last["reason"]) == (True, "no evidence")
    json.dumps(first)


def test_traces_of_a_long_conversation_come_in_parts(store: SessionStore) -> None:
    for n in range(7):
        store.append_turn("long", f"{n}", replace(ANSWER, unsupported=("They sing.",)))
    every = store.traces("long")
    assert [one["turn"] for one in every] == [1, 2, 3, 4, 5, 6, 7]
    assert every[0]["unsupported"] == ["They sing."]
    assert store.traces("long", last=2) == every[5:]
    assert store.traces("long", before=4, last=2) == every[1:3]
    assert store.traces("long", before=3) == every[:2]
    assert store.traces("long", before=1) == store.traces("long", last=0) == ()


def test_a_turn_can_take_the_place_of_another(store: SessionStore) -> None:
    store.append_turn("trip", "one", ANSWER)
    store.append_turn("other", "elsewhere", ANSWER)
    store.append_turn("trip", "two", ANSWER)
    assert store.append_turn("trip", "too", ANSWER, in_place_of=2) == 2
    assert questions(store, "trip") == ["one", "too"]
    assert store.append_turn("trip", "three", ANSWER) == 3
    assert questions(store, "other") == ["elsewhere"]


def test_a_turn_that_cannot_be_stored_leaves_the_one_it_was_to_replace(store: SessionStore) -> None:
    store.append_turn("trip", "one", ANSWER)
    with closing(sqlite3.connect(store.path)) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON turns BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(SessionError, match="full"):
        store.append_turn("trip", "again", ANSWER, in_place_of=1)
    assert questions(store, "trip") == ["one"]


def test_list_and_last_session_follow_the_latest_turn(store: SessionStore) -> None:
    assert (store.list(), store.last_session()) == ([], None)
    assert not store.path.exists()  # looking creates nothing
    for session, question in [("a", "first a"), ("b", "first b"), ("a", "second a")]:
        store.append_turn(session, question, ANSWER)
    a, b = store.list()
    assert a == SessionInfo("a", 2, a.created, a.updated, "first a")
    assert b == SessionInfo("b", 1, b.created, b.created, "first b")
    assert a.created <= b.created <= a.updated
    assert store.last_session() == "a"


def test_export_reads_back_as_the_same_conversation(store: SessionStore, tmp_path: Path) -> None:
    store.append_turn("trip", "Where?", ANSWER)
    store.append_turn("trip", "Who won?", REFUSAL)
    dialogue = store.export("trip")
    assert (dialogue.id, dialogue.messages) == ("trip", store.history("trip"))
    write_dialogues([dialogue], tmp_path / "trip.jsonl")
    (read,) = read_sources([tmp_path / "trip.jsonl"], on_error="fail")
    assert isinstance(read, Dialogue)
    assert (read.id, read.messages) == (dialogue.id, dialogue.messages)
    with pytest.raises(SessionError, match="sessions list"):
        store.export("nothing")


def test_removed_conversation_leaves_no_byte(store: SessionStore) -> None:
    for i in range(200):  # several pages, so that rows move between them
        store.append_turn("secret", f"topsecret {i} " + "x" * (i * 7), ANSWER)
        store.append_turn("kept", f"public {i}", REFUSAL)
    with closing(sqlite3.connect(store.path)) as other:  # keeps the log alive, as another process would
        other.execute("SELECT count(*) FROM turns").fetchone()
        store.append_turn("secret", "in its place", ANSWER, in_place_of=200)
        assert b"topsecret" in bytes_of(store.path)
        store.remove("secret")
        left = bytes_of(store.path)
    assert b"secret" not in left
    assert b"public 199" in left
    assert len(questions(store, "kept")) == 200
    with pytest.raises(SessionError, match="no conversation 'secret'"):
        store.remove("secret")


def test_two_processes_number_their_turns_without_gaps(store: SessionStore) -> None:
    writers = [writer(store.path, "shared", name, 50) for name in ("left", "right")]
    numbers = [[int(line) for line in process.communicate()[0].split()] for process in writers]
    assert [process.returncode for process in writers] == [0, 0]
    assert sorted(numbers[0] + numbers[1]) == list(range(1, 101))
    asked = questions(store, "shared")
    for name, own in zip(("left", "right"), numbers, strict=True):
        assert [asked[number - 1] for number in own] == [f"{name} {i}" for i in range(50)]


def test_owners_do_not_see_each_other(store: SessionStore) -> None:
    anna, ben = SessionStore(store.path, owner="anna"), SessionStore(store.path, owner="ben")
    anna.append_turn("trip", "Anna's question", ANSWER)
    ben.append_turn("work", "Ben's question", ANSWER)
    assert ben.history("trip") == () == store.history("trip")
    assert ben.traces("trip") == ()
    assert ben.last_session() == "work"
    assert [one.id for one in ben.list()] == ["work"]
    for forbidden in (ben.export, ben.remove):
        with pytest.raises(SessionError, match="no conversation 'trip'"):
            forbidden("trip")
    assert ben.append_turn("trip", "Ben's own trip", ANSWER, in_place_of=1) == 1
    ben.remove("trip")
    assert questions(anna, "trip") == ["Anna's question"]


def test_a_file_without_owners_becomes_the_local_users(store: SessionStore) -> None:
    store.append_turn("trip", "Where?", ANSWER)
    store.append_turn("trip", "When?", REFUSAL)
    before = (store.history("trip"), store.traces("trip"), store.list())
    columns = "id, session, position, created, question, reply, abstained, sources, trace"
    with closing(sqlite3.connect(store.path)) as connection:  # what format 1 was
        connection.execute(f"CREATE TABLE first AS SELECT {columns} FROM turns")
        connection.execute("DROP TABLE turns")
        connection.execute("ALTER TABLE first RENAME TO turns")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    assert (store.history("trip"), store.traces("trip"), store.list()) == before
    assert store.append_turn("trip", "Why?", ANSWER) == 3


def test_acknowledged_turns_survive_a_kill(store: SessionStore) -> None:
    with writer(store.path, "killed", "turn", 100_000) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(20)]
        process.kill()
        acknowledged += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    asked = questions(store, "killed")
    assert len(asked) in (len(acknowledged), len(acknowledged) + 1)  # one may be stored, not yet said
    assert asked == [f"turn {i}" for i in range(len(asked))]
    assert store.append_turn("killed", "on", ANSWER) == len(asked) + 1


def test_threads_share_a_store(store: SessionStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda i: store.append_turn("threads", str(i), ANSWER), range(20)))
    assert sorted(numbers) == list(range(1, 21))


@settings(max_examples=15, deadline=None)
@given(question=st.text(st.characters(codec="utf-8")), reply=st.text("\x00\n 'é☃𝄞a"))
def test_any_text_is_kept_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, question: str, reply: str
) -> None:
    store = SessionStore(tmp_path_factory.mktemp("text") / "s.sqlite")
    store.append_turn("trip", question, replace(REFUSAL, text=reply))
    assert [message.content for message in store.history("trip")] == [question, reply]


def test_bytes_that_were_no_text_are_marked(store: SessionStore) -> None:
    store.append_turn("trip", "caf\udce9", ANSWER)
    assert questions(store, "trip") == ["caf?"]


@pytest.mark.parametrize("name", ["", "a" * 129, "a/b", "a b", "é", "a\n", "../x"])
def test_bad_names_are_refused_with_a_fix(store: SessionStore, name: str) -> None:
    with pytest.raises(UsageError, match="1 to 128 letters"):
        store.append_turn(name, "?", ANSWER)
    with pytest.raises(UsageError):
        store.history(name)
    assert not store.path.exists()


def test_new_ids_are_valid_names_and_differ(store: SessionStore) -> None:
    first, second = new_session_id(), new_session_id()
    assert first != second
    assert store.append_turn(first, "?", ANSWER) == 1


def test_default_path_is_read_when_it_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAG_CHAT_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert SessionStore().path == default_path() == tmp_path / "own" / "sessions.sqlite"
    monkeypatch.delenv("RAG_CHAT_HOME")
    assert default_path() == tmp_path / "data" / "rag_chat" / "sessions.sqlite"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert default_path() == tmp_path / ".local" / "share" / "rag_chat" / "sessions.sqlite"


def test_only_the_owner_can_read(store: SessionStore) -> None:
    store.append_turn("trip", "?", ANSWER)
    assert store.path.stat().st_mode & 0o077 == 0
    assert store.path.parent.stat().st_mode & 0o077 == 0


def test_damage_is_named_with_its_mend(store: SessionStore) -> None:
    for i in range(100):
        store.append_turn("trip", f"{i} " + "x" * 500, ANSWER)
    whole = store.path.read_bytes()
    damages = {
        "not a database": b"no database " * 1000,
        "a page overwritten": whole[:8192] + b"\xff" * 8192 + whole[16384:],
        "cut short": whole[: len(whole) // 2],
    }
    for damaged in damages.values():
        store.path.write_bytes(damaged)
        with pytest.raises(SessionError, match=r"sessions\.sqlite is damaged") as caught:
            store.history("trip")
        subprocess.run(caught.value.fix.rpartition(": ")[2], shell=True, check=True)
        assert Path(f"{store.path}.damaged").read_bytes() == damaged  # nothing is lost
        assert store.append_turn("trip", "again", ANSWER) == 1


def test_another_programs_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(SessionError, match="not a file of conversations"):
        SessionStore(path).append_turn("trip", "?", ANSWER)
    assert path.read_bytes() == before


def test_newer_format_is_refused(store: SessionStore) -> None:
    store.append_turn("trip", "?", ANSWER)
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute("PRAGMA user_version = 3")
    with pytest.raises(SessionError, match="upgrade"):
        store.history("trip")


def test_a_path_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "sessions.sqlite", tmp_path):
        with pytest.raises(SessionError, match=str(path)) as caught:
            SessionStore(path).append_turn("trip", "?", ANSWER)
        assert "RAG_CHAT_HOME" in caught.value.fix


def test_a_writer_that_never_ends_is_named(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rag_chat.conversation.database.BUSY_SECONDS", 0.1)
    store.append_turn("trip", "?", ANSWER)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SessionError, match="busy in another process"):
            store.append_turn("trip", "!", ANSWER)
        assert questions(store, "trip") == ["?"]  # reading goes on
