"""The system refuses to write: what was committed stays, and the error is typed and says what to do."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from children import ONE_THREAD, TESTS, call
from writer_process import HashingEmbedder, documents, state_of, whole_state

from rag_chat.errors import IndexWriteFailed
from rag_chat.retrieval.index import Index

OPERATIONS = ("build", "replace", "add", "sync", "remove", "rebuild")
BEFORE, AFTER = documents(30, 1), documents(30, 2)


@pytest.fixture(scope="module")
def faulty_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes system calls fail: beneath Python, SQLite and FAISS alike."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and LD_PRELOAD")
    library = tmp_path_factory.mktemp("faulty") / "faulty_io.so"
    source = TESTS / "faulty_io.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("every", [25, pytest.param(1, marks=pytest.mark.slow)])
def test_the_nth_call_fails(operation: str, every: int, faulty_library: Path, tmp_path: Path) -> None:
    """EIO once, ENOSPC from the nth on, EMFILE once: for every n until the operation succeeds."""
    environment = {**os.environ, **ONE_THREAD, "LD_PRELOAD": str(faulty_library)}
    program = [sys.executable, TESTS / "faulty_process.py", operation, tmp_path, str(every)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=True)
    trials: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = Counter((one["error"], one["failed"] or "survived") for one in trials)
    sys.stdout.write(f"{operation}: {len(trials)} trials, {dict(kinds)}\n")
    assert {one["failed"] for one in trials} <= {"", "IndexWriteFailed"}
    assert [one for one in trials if not (isinstance(one["states"], list) and one["states"])] == []
    assert [one for one in trials if not one["failed"] and not one["success"]] == []
    for error in ("EIO", "ENOSPC"):
        assert kinds[error, "IndexWriteFailed"] > 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Index.build(BEFORE, tmp_path / "index", embedder=HashingEmbedder()).close()
    return tmp_path / "index"


def add_within(folder: Path, limit: int) -> str:
    """Add to an index in a process whose files may not grow beyond `limit` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        with Index.open(folder, embedder=HashingEmbedder()) as index:
            index.add(AFTER)
    except IndexWriteFailed as error:
        return f"{error.problem} {error.fix}"
    return ""


def test_files_may_not_grow(path: Path, tmp_path: Path) -> None:
    """RLIMIT_FSIZE, from nothing to enough."""
    old, new = state_of(BEFORE), state_of(BEFORE) | state_of(AFTER)
    seen = []
    for limit in (0, 50, 5_000, 30_000, 60_000, 90_000, 120_000, 1_000_000):
        folder = Path(shutil.copytree(path, tmp_path / f"limit {limit}"))
        failed = call(add_within, folder, limit)
        assert not failed or (str(folder) in failed and "Make room" in failed)
        state = call(whole_state, folder)
        assert state in ((old, new) if failed else (new,))
        seen.append((bool(failed), state == new))
    assert seen[0] == (True, False)
    assert seen[-1] == (False, True)


FILL = """
import sys
from pathlib import Path
from rag_chat.errors import IndexWriteFailed
from rag_chat.retrieval.index import Index
from rag_chat.types import Document
from writer_process import HashingEmbedder, documents, state_of
folder, embedder = Path(sys.argv[1]) / "index", HashingEmbedder()
Index.build(documents(30, 1), folder, embedder=embedder).close()
state = state_of(documents(30, 1))
for n in range(100):
    more = [Document(f"m{n}-{i}", f"much text {n} {i} " * 60) for i in range(20)]
    try:
        with Index.open(folder, embedder=embedder) as index:
            index.add(more)
    except IndexWriteFailed as error:
        with Index.open(folder, embedder=embedder) as index:
            now = {name: index.document_text(name) for name in index.store.sources()}
            assert now in (state, state | state_of(more))
            assert len(index.search("text", k=10_000, mode="dense")) == index.info()["passages"]
        print("full after", n, error.problem)
        break
    state |= state_of(more)
"""


def test_a_real_disk_of_one_mebibyte_fills_up(tmp_path: Path) -> None:
    script = f'mount -t tmpfs -o size=1m none "{tmp_path}" && exec "{sys.executable}" -c "$1" "{tmp_path}"'
    mounting = ["unshare", "-rm", "sh", "-c"]
    try:
        subprocess.run(
            [*mounting, f'mount -t tmpfs -o size=1m none "{tmp_path}"'], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not allowed here")
    environment = {**os.environ, **ONE_THREAD}
    done = subprocess.run([*mounting, script, "sh", FILL], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("full after")
