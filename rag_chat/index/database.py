"""The single commit point of an index: one SQLite file, written in transactions."""

from __future__ import annotations

import datetime
import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rag_chat.errors import IndexFault, IndexNotFound
from rag_chat.index.faults import corrupt, database_errors

DATABASE_FILE = "passages.sqlite"
FORMAT_VERSION = 1
APPLICATION_ID = 0x52414743  # "RAGC": tells an index from any other SQLite file

# AUTOINCREMENT: the id of a removed passage is never used again, so a FAISS file that lags behind
# can be caught up by comparing ids. `lexical` is contentless: the text is kept once, in `passages`.
# Checksums are CRC-32 (zlib) over the row's content, as SQLite itself keeps none.
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('topic', 'dialogue')),
    origin TEXT NOT NULL,      -- what was given to read it from, relative to the index folder
    hash BLOB NOT NULL,        -- SHA-256 of what was read
    title TEXT NOT NULL,
    metadata TEXT NOT NULL,    -- JSON object
    checksum INTEGER NOT NULL,
    text TEXT NOT NULL
);
CREATE TABLE passages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    document INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    public_id TEXT NOT NULL UNIQUE,
    start INTEGER NOT NULL,    -- characters (code points) of documents.text
    end INTEGER NOT NULL,
    title TEXT NOT NULL,
    metadata TEXT NOT NULL,    -- JSON object
    context TEXT NOT NULL,
    situation TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX passages_document ON passages (document);
CREATE TABLE vectors (
    passage INTEGER PRIMARY KEY REFERENCES passages (id) ON DELETE CASCADE,
    text_hash BLOB NOT NULL,   -- SHA-256 of the text embedded
    checksum INTEGER NOT NULL,
    vector BLOB NOT NULL       -- little-endian float32, unit length
);
CREATE INDEX vectors_text_hash ON vectors (text_hash);
CREATE TABLE tags (            -- metadata again, by value, for filters
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    passage INTEGER NOT NULL REFERENCES passages (id) ON DELETE CASCADE,
    PRIMARY KEY (key, value, passage)
) WITHOUT ROWID;
CREATE INDEX tags_passage ON tags (passage);
CREATE VIRTUAL TABLE lexical USING fts5 (
    text, content='', tokenize='porter unicode61 remove_diacritics 2'
);
"""


class Database:
    """One connection to `passages.sqlite`; threads take turns on it."""

    def __init__(self, folder: Path) -> None:
        """Open the database of an index; raises IndexNotFound, IndexCorrupt or IndexFault."""
        self.path = folder / DATABASE_FILE
        if not self.path.is_file() or self.path.stat().st_size == 0:
            raise _not_found(folder)
        self._turn = threading.RLock()
        with database_errors(self.path):
            self.connection = _connect(self.path)
        try:
            self._check(folder)
        except BaseException:
            self.connection.close()
            raise

    @staticmethod
    def create(folder: Path, meta: dict[str, Any]) -> None:
        """Create an empty database, unless there is one. The caller holds the writer's lock."""
        path = folder / DATABASE_FILE
        with database_errors(path):
            connection = _connect(path)
            try:
                if not connection.execute("PRAGMA application_id").fetchone()[0]:
                    _initialise(connection, meta)
            finally:
                connection.close()

    def _check(self, folder: Path) -> None:
        with database_errors(self.path):
            application = self.connection.execute("PRAGMA application_id").fetchone()[0]
            tables = self.connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            if application == 0 and tables == 0:  # killed while it was being created
                raise _not_found(folder)
            if application != APPLICATION_ID:
                raise corrupt(self.path, "it is not a database of rag-chat")
            version = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT_VERSION:
            raise IndexFault(
                f"{folder} has format {version}; this rag-chat reads up to {FORMAT_VERSION}.",
                "Run: pip install --upgrade rag-chat",
            )

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Read one consistent state; inside a transaction that transaction's."""
        with self._turn, database_errors(self.path):
            if self.connection.in_transaction:
                yield self.connection
                return
            self.connection.execute("BEGIN")
            try:
                yield self.connection
            finally:
                self.connection.rollback()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write all or nothing, and raise the generation by one.

        An inner transaction is part of the outer one.
        """
        with self._turn, database_errors(self.path):
            if self.connection.in_transaction:
                yield self.connection
                return
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.set_meta(generation=self.meta("generation") + 1)
                self.connection.commit()
            finally:
                if self.connection.in_transaction:
                    self.connection.rollback()

    def meta(self, key: str) -> Any:
        """Return one entry of `meta`."""
        with self.snapshot() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise corrupt(self.path, f"its entry {key!r} is missing")
        return json.loads(row[0])

    def set_meta(self, **values: Any) -> None:
        """Write entries of `meta`, as part of a transaction."""
        rows = [(key, json.dumps(value)) for key, value in values.items()]
        self.connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def sweep(self) -> None:
        """Make what was removed unreadable in the files too, and give its space back.

        SQLite zeroes freed bytes (secure_delete), but moving rows between pages leaves copies
        behind: only VACUUM writes every page anew. About 4 s for 100,000 passages.
        """
        with self._turn, database_errors(self.path):
            if self.meta("unswept"):
                self.connection.execute("VACUUM")
                self.connection.execute("UPDATE meta SET value = 'false' WHERE key = 'unswept'")
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        with self._turn, database_errors(self.path):
            self.connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    """Open with the guarantees of promise 1; a folder that cannot be written is read as it is."""
    writable = os.access(path.parent, os.W_OK)
    pending = path.with_name(path.name + "-wal")
    frozen = not writable and not (pending.is_file() and pending.stat().st_size)
    uri = f"{path.absolute().as_uri()}?mode={'rwc' if writable else 'ro'}{'&immutable=1' * frozen}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        if writable:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA cache_size = -65536")  # 64 MiB
    except BaseException:
        connection.close()
        raise
    return connection


def _initialise(connection: sqlite3.Connection, meta: dict[str, Any]) -> None:
    """Create all tables in one transaction: a kill leaves an empty file or a whole schema."""
    entries = {
        "format_version": FORMAT_VERSION,
        "generation": 0,
        "vectors": new_identity(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "unswept": False,
        **meta,
    }
    rows = [(key, json.dumps(value)) for key, value in entries.items()]
    connection.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA.split(";\n"):
        connection.execute(statement)
    connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    connection.execute("COMMIT")


def new_identity() -> str:
    """Return a name for a set of vectors, so that no FAISS file of other vectors passes for it."""
    return uuid.uuid4().hex


def _not_found(folder: Path) -> IndexNotFound:
    return IndexNotFound(
        f"There is no index at {folder}.", f"Build one: rag-chat index build SRC... -o {folder}"
    )
