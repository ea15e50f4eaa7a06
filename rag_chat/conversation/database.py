"""The SQLite file that conversations are kept in: its schema, its guarantees, and its errors."""

from __future__ import annotations

import json
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rag_chat.errors import SessionError

FORMAT_VERSION = 2  # 2: sessions have an owner
APPLICATION_ID = 0x52414753  # "RAGS": tells conversations from any other SQLite file
BUSY_SECONDS = 10.0  # how long to wait for another process that is writing

# One row is one turn, question and reply together: there is no state with half of it. What was retrieved
# is in `trace` alone, which never becomes a message.
_SCHEMA = """
CREATE TABLE turns (
    id INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,        -- '': the local user
    session TEXT NOT NULL,
    position INTEGER NOT NULL,  -- 1, 2, 3 ... within the session of an owner
    created TEXT NOT NULL,      -- ISO 8601, UTC
    question TEXT NOT NULL,
    reply TEXT NOT NULL,
    abstained INTEGER NOT NULL,
    sources TEXT NOT NULL,      -- JSON array
    trace TEXT NOT NULL,        -- JSON object
    UNIQUE (owner, session, position)
)
"""

_REFUSED = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


@contextmanager
def opened(path: Path, *, create: bool) -> Iterator[sqlite3.Connection]:
    """One connection; to an empty store in memory where there is no file and none is to be made.

    Raises SessionError for whatever the system and SQLite complain about, naming the file and what mends it.
    """
    with _errors(path):
        if create:  # for the user's eyes only; SQLite gives its log the same permissions
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
        target = path if create or path.exists() else ":memory:"
        with closing(sqlite3.connect(target, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            _prepare(connection, path)
            yield connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Set the guarantees, and make the schema in a new file; another program's file stays as it is."""
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")
    empty = "SELECT count(*) = 0 FROM sqlite_schema"
    if connection.execute(empty).fetchone()[0]:
        connection.execute("PRAGMA journal_mode = WAL")  # stays with the file
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute(empty).fetchone()[0]:  # still: no other process was faster
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        connection.execute("COMMIT")
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise _damaged(path, "it is not a file of conversations")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > FORMAT_VERSION:
        raise SessionError(f"{path} was written by a newer rag-chat.", "Run: pip install --upgrade rag-chat")
    if version == 1:
        _give_to_local_user(connection)


def _give_to_local_user(connection: sqlite3.Connection) -> None:
    """Bring a file of format 1, which knew one user only, up to date: all or nothing."""
    columns = "session, position, created, question, reply, abstained, sources, trace"
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("PRAGMA user_version").fetchone()[0] == 1:  # still
        connection.execute("ALTER TABLE turns RENAME TO turns_1")
        connection.execute(_SCHEMA)
        connection.execute(
            f"INSERT INTO turns (id, owner, {columns}) SELECT id, '', {columns} FROM turns_1 ORDER BY id"
        )
        connection.execute("DROP TABLE turns_1")
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    connection.execute("COMMIT")


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Turn what the system and SQLite complain about into SessionErrors that name the file."""
    try:
        yield
    except SessionError:
        raise
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error
    except json.JSONDecodeError as error:
        raise _damaged(path, str(error)) from error
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in _BUSY:
            raise busy(path) from error
        if code in _REFUSED:
            raise _refused(path, str(error)) from error
        raise _damaged(path, str(error)) from error


def busy(path: Path) -> SessionError:
    return SessionError(f"{path} is busy in another process.", "Try again in a moment.")


def _refused(path: Path, reason: str) -> SessionError:
    return SessionError(
        f"Conversations cannot be kept in {path}: {reason}.",
        "Make room or allow reading and writing there, or name another folder in RAG_CHAT_HOME.",
    )


def _damaged(path: Path, reason: str) -> SessionError:
    """Nothing is deleted: the file is moved aside, with its log, which belongs to it."""
    files = [path, *(log for log in [path.with_name(f"{path.name}-wal")] if log.exists())]
    move = " && ".join(shlex.join(["mv", str(file), f"{file}.damaged"]) for file in files)
    return SessionError(
        f"{path} is damaged: {reason}.",
        f"Move it away, and a new file is made with the next turn: {move}",
    )
