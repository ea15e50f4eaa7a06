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
from rag_chat.index.faults import corrupt, database_errors, rebuild_from_sources
from rag_chat.index.schema import FORMAT_VERSION, crc, create_tables, schema_digest, seal

DATABASE_FILE = "passages.sqlite"
VECTORS_FILE = "vectors.faiss"
MANIFEST_FILE = "manifest.json"
DERIVED_FILES = (VECTORS_FILE, MANIFEST_FILE)
APPLICATION_ID = 0x52414743  # "RAGC": tells an index from any other SQLite file


class Database:
    """One connection to `passages.sqlite`; threads take turns on it."""

    def __init__(self, folder: Path) -> None:
        """Open the database of an index; raises IndexNotFound, IndexCorrupt or IndexFault."""
        self.path = folder / DATABASE_FILE
        if not self.path.is_file() or self.path.stat().st_size == 0:
            raise self._missing()
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
        """Hold the head of the file against what is written in it: cheap, at each opening."""
        with database_errors(self.path):
            application = self.connection.execute("PRAGMA application_id").fetchone()[0]
            tables = self.connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            version = self.connection.execute("PRAGMA user_version").fetchone()[0]
            digest = schema_digest(self.connection)
        if application == 0 and tables == 0:  # killed while it was being created
            raise self._missing()
        if application != APPLICATION_ID:
            raise corrupt(self.path, "it is not a database of rag-chat")
        if version != FORMAT_VERSION:
            raise _other_format(folder, version)
        if self.meta("format_version") != version or self.meta("schema") != digest:
            raise corrupt(self.path, "its tables are not those it was made with")

    def _missing(self) -> IndexFault:
        """Return the error for no database: where there was one, that is damage."""
        folder = self.path.parent
        if any((folder / name).exists() for name in DERIVED_FILES):
            return corrupt(self.path, "it is missing or empty")
        return IndexNotFound(
            f"There is no index at {folder}.", f"Build one: rag-chat index build SRC... -o {folder}"
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
                seal(self.connection)
                self.set_meta(generation=self.meta("generation") + 1)
                self.connection.commit()
            finally:
                if self.connection.in_transaction:
                    self.connection.rollback()

    def meta(self, key: str) -> Any:
        """Return one entry of `meta`."""
        query = "SELECT value, checksum FROM meta WHERE key = ?"
        with self.snapshot() as connection:
            row = connection.execute(query, (key,)).fetchone()
        if row is None or crc(key, row[0]) != row[1]:
            raise corrupt(self.path, f"its entry {key!r} is missing or does not match its checksum")
        return json.loads(row[0])

    def set_meta(self, **values: Any) -> None:
        """Write entries of `meta`, as part of a transaction."""
        _set_meta(self.connection, values)

    def sweep(self) -> None:
        """Make what was removed unreadable in the files too, and give its space back.

        SQLite zeroes freed bytes (secure_delete), but moving rows between pages leaves copies
        behind: only VACUUM writes every page anew. About 4 s for 100,000 passages.
        """
        with self._turn, database_errors(self.path):
            if self.meta("unswept"):
                self.connection.execute("VACUUM")
                self.set_meta(unswept=False)
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
        connection.execute("PRAGMA cell_size_check = ON")  # notices damaged pages sooner
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA cache_size = -65536")  # 64 MiB
    except BaseException:
        connection.close()
        raise
    return connection


def _initialise(connection: sqlite3.Connection, meta: dict[str, Any]) -> None:
    """Create all tables in one transaction: a kill leaves an empty file or a whole schema."""
    connection.execute("BEGIN IMMEDIATE")
    create_tables(connection)
    seal(connection)
    entries = {
        "format_version": FORMAT_VERSION,
        "index": new_identity(),
        "schema": schema_digest(connection),
        "generation": 0,
        "vectors": new_identity(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "unswept": False,
        **meta,
    }
    _set_meta(connection, entries)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    connection.execute("COMMIT")


def _set_meta(connection: sqlite3.Connection, values: dict[str, Any]) -> None:
    texts = {key: json.dumps(value) for key, value in values.items()}
    rows = [(key, crc(key, text), text) for key, text in texts.items()]
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", rows)


def new_identity() -> str:
    """Return a name for a set of vectors, so that no FAISS file of other vectors passes for it."""
    return uuid.uuid4().hex


def _other_format(folder: Path, version: int) -> IndexFault:
    problem = f"{folder} has format {version}; this rag-chat reads format {FORMAT_VERSION}."
    if version > FORMAT_VERSION:
        return IndexFault(problem, "Run: pip install --upgrade rag-chat")
    return IndexFault(problem, rebuild_from_sources(folder))
