"""Conversations kept in one SQLite file: what was said, and the trace of how each turn was answered."""

from __future__ import annotations

import builtins
import datetime
import json
import operator
import os
import re
import secrets
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rag_chat.conversation.database import busy, opened
from rag_chat.errors import SessionError, UsageError
from rag_chat.types import Answer, Dialogue, Hit, Message

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One stored conversation; the times are ISO 8601 in UTC, of its first and its last turn."""

    id: str
    turns: int
    created: str
    updated: str
    first_question: str


def default_path() -> Path:
    """Return where conversations are kept, as the environment says now.

    The file sessions.sqlite in $RAG_CHAT_HOME, else $XDG_DATA_HOME/rag_chat, else ~/.local/share/rag_chat.
    """
    home = os.environ.get("RAG_CHAT_HOME")
    if home:
        return Path(home).expanduser() / "sessions.sqlite"
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not data.is_absolute():  # to be ignored: XDG Base Directory Specification
        data = Path.home() / ".local" / "share"
    return data / "rag_chat" / "sessions.sqlite"


def new_session_id() -> str:
    """Return a name for a new conversation: 128 random bits, in hexadecimal."""
    return secrets.token_hex(16)


class SessionStore:
    """The conversations of one owner in one SQLite file.

    Those of other owners are as if they did not exist, so two owners may use one name. The owner "" is the
    local user.

    Every call opens the file and closes it again (about a millisecond), so a store may be shared by threads
    and by forked processes. All methods raise SessionError when the file cannot be read or written, and
    UsageError for a session name that cannot be one.
    """

    def __init__(self, path: Path | None = None, *, owner: str = "") -> None:
        """Use the file `path`, by default `default_path()`; it is created with the first turn."""
        self.path = default_path() if path is None else Path(path)
        self.owner = _text(owner)

    def append_turn(
        self, session: str, question: str, answer: Answer, *, in_place_of: int | None = None
    ) -> int:
        """Store a question, its answer and the trace, all or nothing; return the turn's number, from 1.

        On return the turn is on the disk. Turns of several processes get numbers without gaps. `in_place_of`
        is the number of a turn that this one takes the place of.
        """
        row = (
            _now(),
            _text(question),
            _text(answer.text),
            answer.abstained,
            json.dumps(list(dict.fromkeys(citation.source for citation in answer.citations))),
            json.dumps(_trace(answer), default=operator.methodcaller("item")),  # NumPy's scalars
        )
        with self._connection(session, create=True) as connection:
            connection.execute("BEGIN IMMEDIATE")  # before the number is read: holds off other writers
            (number,) = connection.execute(
                "SELECT coalesce(?, max(position) + 1, 1) FROM turns WHERE owner = ? AND session = ?",
                (in_place_of, self.owner, session),
            ).fetchone()
            connection.execute(
                "INSERT OR REPLACE INTO turns"
                " (owner, session, position, created, question, reply, abstained, sources, trace)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (self.owner, session, number, *row),
            )
            connection.execute("COMMIT")
        return int(number)

    def history(self, session: str) -> tuple[Message, ...]:
        """Return what was said, oldest first; nothing for a new session."""
        with self._connection(session, create=False) as connection:
            rows = connection.execute(
                "SELECT question, reply, abstained, sources FROM turns"
                " WHERE owner = ? AND session = ? ORDER BY position",
                (self.owner, session),
            ).fetchall()
            return tuple(message for row in rows for message in _exchange(*row))

    def last_answer(self, session: str) -> Mapping[str, Any] | None:
        """Return the trace of the last turn, or None for a new session."""
        traces = self.traces(session, last=1)
        return traces[0] if traces else None

    def traces(
        self, session: str, *, before: int | None = None, last: int | None = None
    ) -> tuple[Mapping[str, Any], ...]:
        """Return how each turn was answered, oldest first; `before` a turn, and the `last` so many, only.

        Keys: `turn`, `question`, `answer`, `abstained`, `reason`, `query`, `hits`, `citations`, `prompt`,
        `dropped`, `timings_ms`, `model`, `queries`, `unsupported`, `confidence`, `settings`, `hashes`.
        """
        with self._connection(session, create=False) as connection:
            rows = connection.execute(
                "SELECT position, question, reply, abstained, trace FROM turns"
                " WHERE owner = ? AND session = ? AND position < ? ORDER BY position DESC LIMIT ?",
                (
                    self.owner,
                    session,
                    sys.maxsize if before is None else before,
                    -1 if last is None else last,
                ),
            ).fetchall()
            return tuple(
                {"turn": n, "question": question, "answer": reply, "abstained": bool(abstained)}
                | json.loads(trace)
                for n, question, reply, abstained, trace in reversed(rows)
            )

    def list(self) -> builtins.list[SessionInfo]:
        """Return all conversations, the one continued last first."""
        with opened(self.path, create=False) as connection:
            rows = connection.execute(
                "SELECT session, count(*), min(created), max(created), (SELECT question FROM turns AS t"
                " WHERE t.owner = turns.owner AND t.session = turns.session AND t.position = 1)"
                " FROM turns WHERE owner = ? GROUP BY session ORDER BY max(id) DESC",
                (self.owner,),
            ).fetchall()
        return [SessionInfo(*row) for row in rows]

    def last_session(self) -> str | None:
        """Return the conversation that was continued last, or None when there is none."""
        with opened(self.path, create=False) as connection:
            row = connection.execute(
                "SELECT session FROM turns WHERE owner = ? ORDER BY id DESC LIMIT 1", (self.owner,)
            ).fetchone()
        return row[0] if row else None

    def export(self, session: str) -> Dialogue:
        """Return a conversation as a dialogue; raises SessionError when there is none of that name."""
        messages = self.history(session)
        if not messages:
            raise _unknown(session)
        return Dialogue(id=session, messages=messages)

    def remove(self, session: str) -> None:
        """Delete a conversation for good: no byte of it stays in the files.

        It also leaves the memory, and the traces of other conversations that it was retrieved for. Raises
        SessionError when there is none of that name, and when another process keeps the files busy
        for 10 seconds; removing again then finishes the work.
        """
        from rag_chat.conversation.memory import forget, identity

        source = identity(self.owner, session)
        forget(self.path, source)
        with self._connection(session, create=False) as connection:
            for row, trace in connection.execute(
                "SELECT id, trace FROM turns WHERE owner = ? AND instr(trace, ?) > 0", (self.owner, source)
            ).fetchall():
                connection.execute("UPDATE turns SET trace = ? WHERE id = ?", (_without(trace, source), row))
            count = connection.execute(
                "DELETE FROM turns WHERE owner = ? AND session = ?", (self.owner, session)
            ).rowcount
            # secure_delete zeroes freed bytes, but moving rows between pages leaves copies behind: only
            # VACUUM writes every page anew. The log keeps old pages until it is cut to nothing.
            connection.execute("VACUUM")
            blocked, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if blocked:
                raise busy(self.path)
        if not count:
            raise _unknown(session)

    def _connection(self, session: str, *, create: bool) -> AbstractContextManager[sqlite3.Connection]:
        _check_name(session)
        return opened(self.path, create=create)


def _exchange(question: str, reply: str, abstained: int, sources: str) -> tuple[Message, Message]:
    said = Message("assistant", reply, sources=tuple(json.loads(sources)), abstained=bool(abstained))
    return Message("user", question), said


def _trace(answer: Answer) -> dict[str, Any]:
    kept = (
        "reason",
        "query",
        "prompt",
        "dropped",
        "model",
        "unsupported",
        "confidence",
        "settings",
        "hashes",
    )
    return {
        **{name: getattr(answer, name) for name in kept},
        "hits": [_hit(hit) for hit in answer.hits],
        "citations": [asdict(citation) for citation in answer.citations],
        "timings_ms": dict(answer.timings_ms),
        "queries": [asdict(query) for query in answer.queries],
    }


def _without(trace: str, source: str) -> str:
    """A trace that says nothing any more of what was found in `source`; its prompt held that, too."""
    kept = json.loads(trace)
    for part in ("hits", "citations"):
        kept[part] = [one for one in kept[part] if one["source"] != source]
    return json.dumps(kept | {"prompt": ""})


def _hit(hit: Hit) -> dict[str, Any]:
    scores = {"score": hit.score, "dense": hit.dense, "lexical": hit.lexical}
    return {"passage_id": hit.passage.id, "source": hit.passage.source, "title": hit.passage.title, **scores}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _check_name(session: str) -> None:
    if not _NAME.fullmatch(session):
        raise UsageError(
            f"{session!r} cannot name a session.",
            "Use 1 to 128 letters, digits, dots, underscores and hyphens, as in: trip-2026",
        )


def _text(text: str) -> str:
    """The text with a `?` for each lone surrogate (bytes that were no UTF-8), which SQLite refuses."""
    return text.encode("utf-8", "replace").decode()


def _unknown(session: str) -> SessionError:
    return SessionError(f"There is no conversation {session!r}.", "See them all: rag-chat sessions list")
