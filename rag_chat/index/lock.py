"""One writer at a time: a lock on a file, which the system lets go of when its owner dies."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rag_chat.errors import IndexLocked
from rag_chat.index.faults import write_errors

LOCK_FILE = "lock"
PATIENCE = 0.5  # seconds: readers hold the lock for a moment to put a FAISS file in place


@contextmanager
def writer_lock(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of an index folder.

    Raises IndexLocked when another still holds it after `patience` seconds.
    """
    with write_errors(folder):
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        until = time.monotonic() + patience
        while not _taken(descriptor):
            if time.monotonic() >= until:
                raise _locked(folder, os.pread(descriptor, 1000, 0))
            time.sleep(0.02)
        owner = {"pid": os.getpid(), "since": f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}"}
        with write_errors(folder):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(owner).encode(), 0)
        yield
    finally:
        os.close(descriptor)  # lets go of the lock; the file stays, or two could lock two files


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
