"""One writer at a time: a lock on a file, which the system lets go of when its owner dies."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rag_chat.errors import IndexLocked
from rag_chat.index.faults import write_errors

LOCK_FILE = "lock"


@contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of an index folder; raises IndexLocked at once when another holds it."""
    with write_errors(folder):
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _locked(folder, os.pread(descriptor, 1000, 0)) from None
        owner = {"pid": os.getpid(), "since": f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}"}
        with write_errors(folder):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(owner).encode(), 0)
        yield
    finally:
        os.close(descriptor)  # lets go of the lock; the file stays, or two could lock two files


def _locked(folder: Path, content: bytes) -> IndexLocked:
    try:
        owner = json.loads(content)
        who = f"process {owner['pid']} since {owner['since']}"
    except (ValueError, KeyError, TypeError):  # taken this very moment, not yet signed
        who = "another process"
    return IndexLocked(
        f"The index {folder} is being written by {who}.",
        "Wait until it is done, or stop that process; the index stays readable meanwhile.",
    )
