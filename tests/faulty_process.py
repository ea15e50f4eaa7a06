"""Runs operations on an index while system calls fail; started with `faulty_io.c` preloaded.

Each trial is a fork of this process, so that it costs milliseconds. Prints a line of JSON a trial.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from writer_process import HashingEmbedder, State, documents, state_of, whole_state

from rag_chat.errors import IndexFault, IndexNotFound
from rag_chat.retrieval.index import Index

BEFORE, AFTER = documents(30, 1), documents(30, 2)
OTHER = HashingEmbedder("other", 1)


def build(folder: Path) -> None:
    Index.build(AFTER, folder, embedder=HashingEmbedder()).close()


def replace(folder: Path) -> None:
    Index.build(AFTER, folder, embedder=OTHER).close()


def add(folder: Path) -> None:
    with Index.open(folder, embedder=HashingEmbedder()) as index:
        index.add(AFTER)


def sync(folder: Path) -> None:
    with Index.open(folder, embedder=HashingEmbedder()) as index:
        index.sync(AFTER)


def remove(folder: Path) -> None:
    with Index.open(folder, embedder=HashingEmbedder()) as index:
        index.remove(["d1", "d2"])


def rebuild(folder: Path) -> None:
    with Index.open(folder, embedder=HashingEmbedder()) as index:
        index.rebuild(embedder=OTHER)


OPERATIONS: dict[str, Callable[[Path], None]] = {
    one.__name__: one for one in (build, replace, add, sync, remove, rebuild)
}


def outcomes(operation: str) -> list[State]:
    """Return the states an operation may leave when it fails; the last one is its success."""
    old, new = state_of(BEFORE), state_of(AFTER)
    if operation == "build":
        return [{}, new]
    if operation == "remove":
        return [old, {name: text for name, text in old.items() if name not in ("d1", "d2")}]
    if operation == "sync":  # what is new, then what is gone: two commits
        return [old, old | new, new]
    return [old, {"replace": new, "add": old | new, "rebuild": old}[operation]]


def in_fork(run: Callable[[], Any]) -> Any:
    """Return what `run` returns, from a fork."""
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        try:
            os.write(writing, json.dumps(run()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        answer = file.read()
    os.waitpid(pid, 0)
    return json.loads(answer)


def trial(operation: str, folder: Path, nth: int, error: int, lasting: bool) -> dict[str, Any]:
    """Let the nth call fail; say how the operation ended and what is in the index after it."""

    def attempt() -> tuple[str, int]:
        library.faulty_arm(os.fsencode(folder), nth, error, lasting)
        failed = ""
        try:
            OPERATIONS[operation](folder)
        except Exception as caught:
            typed = isinstance(caught, IndexFault) and str(folder) in caught.problem and caught.fix
            failed = type(caught).__name__ if typed else f"untyped {caught!r}"
        return failed, library.faulty_count()

    def look() -> list[int] | str:
        try:
            return [i for i, state in enumerate(outcomes(operation)) if whole_state(folder) == state]
        except IndexNotFound:
            return [0] if operation == "build" else "lost"
        except Exception as caught:
            return repr(caught)

    failed, calls = in_fork(attempt)
    states = in_fork(look)
    success = isinstance(states, list) and len(outcomes(operation)) - 1 in states
    return {"error": errno.errorcode[error], "n": nth, "failed": failed, "calls": calls,
            "states": states, "success": success}  # fmt: skip


def trials(operation: str, pristine: Path, place: Path, every: int) -> Iterator[dict[str, Any]]:
    for error, lasting in ((errno.EIO, False), (errno.ENOSPC, True), (errno.EMFILE, False)):
        for nth in itertools.count(1, every):
            folder = place / "index"
            shutil.rmtree(folder, ignore_errors=True)
            if operation == "build":
                folder.mkdir(parents=True)
            else:
                shutil.copytree(pristine, folder)
            one = trial(operation, folder, nth, error, lasting)
            yield one
            if one["calls"] < nth:  # there was no such call
                break


if __name__ == "__main__":
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    operation, place, every = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    Index.build(BEFORE, place / "pristine", embedder=HashingEmbedder()).close()
    for one in trials(operation, place / "pristine", place / "trial", every):
        sys.stdout.write(json.dumps(one) + "\n")
