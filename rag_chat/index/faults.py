"""What the system and SQLite complain about, as errors that name the file and what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rag_chat.errors import IndexCorrupt, IndexFault, IndexLocked, IndexWriteFailed

_REFUSED = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
}
# These two are I/O errors by number, but a file cut short is damage.
_READ_FAILED = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ}


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors on the file `path` into IndexFaults; wrong SQL stays what it is."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.DatabaseError as error:
        raise _fault(path, error) from error


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusals to write into IndexWriteFailed."""
    try:
        yield
    except OSError as error:
        raise write_failed(path, str(error)) from error


def write_failed(path: Path, reason: str) -> IndexWriteFailed:
    return IndexWriteFailed(
        f"The system refused to write {path}: {reason}.",
        "Make room or allow writing, then run it again; what was committed is intact.",
    )


def corrupt(path: Path, reason: str, *, derived: bool = False) -> IndexCorrupt:
    """Return the error for a damaged file; what is `derived` can be made again from the rest."""
    folder = path.parent
    mend = f"Run: rag-chat index rebuild {folder}" if derived else rebuild_from_sources(folder)
    return IndexCorrupt(f"{path} is damaged: {reason}.", mend)


def rebuild_from_sources(folder: Path) -> str:
    return f"Delete {folder} and build it again: rag-chat index build SRC... -o {folder}"


def _fault(path: Path, error: sqlite3.DatabaseError) -> IndexFault:
    extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    if extended in _READ_FAILED:
        return corrupt(path, str(error))
    if extended & 0xFF in _REFUSED:
        return write_failed(path, str(error))
    if extended & 0xFF == sqlite3.SQLITE_BUSY:
        return IndexLocked(f"{path} is busy in another process.", "Try again in a moment.")
    derived = extended == sqlite3.SQLITE_CORRUPT_VTAB  # the lexical table, made again from passages
    return corrupt(path, str(error), derived=derived)
