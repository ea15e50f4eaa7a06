"""Kills, damage, locks, refused writes: the last committed state is always there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from writer_process import HashingEmbedder, documents

from rag_chat.errors import IndexCorrupt, IndexFault, IndexLocked, IndexWriteFailed
from rag_chat.index.database import MANIFEST_FILE, VECTORS_FILE
from rag_chat.index.lock import writer_lock
from rag_chat.retrieval.index import Index
from rag_chat.types import Document

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pristine") / "index"
    Index.build(documents(60, 1), path, embedder=HashingEmbedder()).close()
    return path


@pytest.fixture
def path(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "index"))


def start(program: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *program], stdout=subprocess.PIPE, text=True, env=environment)


def check(path: Path) -> int:
    """The index opens, everything agrees, and the file of vectors has been caught up."""
    with Index.open(path, embedder=HashingEmbedder()) as index:
        rows = len(list(index.passages()))
        assert len(index.search("document 3", k=1000, mode="dense")) == rows
        index.verify()
        assert index.info()["passages"] == rows
        return rows


def damage(content: bytes) -> bytes:
    half = len(content) // 2
    return content[:half] + bytes(255 - byte for byte in content[half : half + 8]) + content[half + 8 :]


@pytest.mark.parametrize("file", [VECTORS_FILE, MANIFEST_FILE])
@pytest.mark.parametrize(
    "change", [damage, lambda content: content[: len(content) // 2], lambda _: b"", None]
)
def test_a_damaged_derived_file_is_made_again(
    path: Path, file: str, change: Callable[[bytes], bytes] | None
) -> None:
    if change is None:
        (path / file).unlink()
    else:
        (path / file).write_bytes(change((path / file).read_bytes()))
    with Index.open(path) as index, pytest.raises(IndexCorrupt, match="index rebuild") as caught:
        index.verify()
    assert str(path) in caught.value.problem
    check(path)


def test_a_stale_file_is_caught_up(path: Path, tmp_path: Path) -> None:
    old = shutil.copytree(path, tmp_path / "old")
    with Index.open(path, embedder=HashingEmbedder()) as index:
        index.add([Document("new", "something new")])
        index.remove(["d1", "d2"])
    for file in (VECTORS_FILE, MANIFEST_FILE):
        shutil.copy(old / file, path / file)
    assert check(path) == 59


def test_vectors_of_another_index_are_not_taken(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    Index.build(documents(60, 1), other, embedder=HashingEmbedder("other", salt=9)).close()
    for file in (VECTORS_FILE, MANIFEST_FILE):
        shutil.copy(other / file, path / file)
    with pytest.raises(IndexCorrupt, match="another index") as caught:
        Index.open(path)
    subprocess.run(caught.value.fix.rpartition("run: ")[2].split(), check=True)
    check(path)


def test_an_older_database_is_not_taken_for_the_last(path: Path, tmp_path: Path) -> None:
    older = shutil.copy(path / "passages.sqlite", tmp_path)
    with Index.open(path, embedder=HashingEmbedder()) as index:
        index.add([Document("new", "something new")])
    shutil.copy(older, path / "passages.sqlite")
    with pytest.raises(IndexCorrupt, match="lacks the commits"):
        Index.open(path)


@pytest.mark.parametrize("change", [lambda _: b"not a database" * 300, lambda content: content[:5000]])
def test_a_damaged_database_is_named(path: Path, change: Callable[[bytes], bytes]) -> None:
    database = path / "passages.sqlite"
    database.write_bytes(change(database.read_bytes()))
    with (
        pytest.raises(IndexCorrupt, match=r"passages\.sqlite is damaged") as caught,
        Index.open(path) as index,
    ):
        index.verify()
    assert "index build" in caught.value.fix


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE vectors SET vector = zeroblob(64) WHERE passage = 5", "vector of passage row 5"),
        ("UPDATE passages SET text = 'other' WHERE id = 5", "checksum"),
        ("UPDATE documents SET text = text || '!' WHERE id = 5", "checksum"),
        ("DELETE FROM vectors WHERE passage = 5", "the same in number"),
        ("DELETE FROM meta WHERE key = 'generation'", "generation"),
        ("INSERT INTO lexical (rowid, text) VALUES (5000, 'more')", "lexical"),
    ],
)
def test_verify_finds_what_does_not_agree(path: Path, statement: str, reason: str) -> None:
    connection = sqlite3.connect(path / "passages.sqlite")
    connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(IndexCorrupt, match=reason), Index.open(path) as index:
        index.verify()


def test_rebuild_mends_the_lexical_table(path: Path) -> None:
    connection = sqlite3.connect(path / "passages.sqlite")
    connection.execute("INSERT INTO lexical (lexical) VALUES ('delete-all')")
    connection.commit()
    connection.close()
    with Index.open(path) as index:
        with pytest.raises(IndexCorrupt, match="index rebuild"):
            index.verify()
        index.rebuild()
        assert index.search("document 3", mode="lexical")
    check(path)


def test_what_is_no_index_is_told_apart(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "passages.sqlite")
    connection.execute("CREATE TABLE other (a)")
    connection.close()
    with pytest.raises(IndexCorrupt, match="not a database of rag-chat"):
        Index.open(tmp_path)


def test_a_later_format_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path / "passages.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(IndexFault, match="format 99"):
        Index.open(path)


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    program = (
        "import sys, time; from pathlib import Path; from rag_chat.index.lock import writer_lock\n"
        "with writer_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with start(["-c", program, str(path)]) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_second_writer_is_told_who_is_first(path: Path, holder: subprocess.Popen[str]) -> None:
    with Index.open(path, embedder=HashingEmbedder()) as index:
        started = time.monotonic()
        with pytest.raises(IndexLocked, match=rf"process {holder.pid} since \d\d\d\d-"):
            index.add([Document("new", "text")])
        assert time.monotonic() - started < 30  # the first one holds it for 60 s
        (path / VECTORS_FILE).unlink()
        assert index.search("document 3")  # a reader does not wait
        holder.kill()
        holder.wait()
        assert index.add([Document("new", "text")]).added == 1


def test_the_lock_is_not_shared_within_a_process(path: Path) -> None:
    with writer_lock(path), pytest.raises(IndexLocked, match=str(os.getpid())), writer_lock(path):
        pass


def test_a_writer_waits_for_a_reader_that_is_putting_the_vectors_in_place(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = threading.Event()

    def sleep(seconds: float) -> None:
        waits.set()
        time.sleep(seconds)

    # a clock that stands still: this thread may be slower than the writer is patient
    monkeypatch.setattr("rag_chat.index.lock.time", SimpleNamespace(monotonic=lambda: 0.0, sleep=sleep))
    with Index.open(path, embedder=HashingEmbedder()) as index:
        with writer_lock(path):
            writer = threading.Thread(target=index.add, args=([Document("new", "text")],))
            writer.start()
            assert waits.wait(60)
        writer.join()
        assert index.has_source("new")


def test_a_reader_of_an_older_state_leaves_the_newer_file(path: Path) -> None:
    with Index.open(path, embedder=HashingEmbedder()) as reader, reader.snapshot():
        reader.info()
        with Index.open(path, embedder=HashingEmbedder()) as writer:
            writer.add([Document("new", "text")])
        manifest = (path / MANIFEST_FILE).read_bytes()
        assert len(reader.search("document 3", k=100, mode="dense")) == 60
        assert (path / MANIFEST_FILE).read_bytes() == manifest


def test_a_small_addition_leaves_the_vectors_file_as_it_is_and_is_found(path: Path) -> None:
    file = path / VECTORS_FILE
    before = file.read_bytes()
    with Index.open(path, embedder=HashingEmbedder()) as index:
        index.add([Document("new", "something quite new")])  # one on 60
    for _ in range(2):  # who reads it adds what it lacks, and does not write it either
        assert file.read_bytes() == before
        with Index.open(path, embedder=HashingEmbedder()) as index:
            assert index.search("something quite new", mode="dense")[0].passage.source == "new"
            assert len(index.search("new", k=100, mode="dense")) == 61
            assert index.verify()[-1].endswith(
                "60 vectors, equal to those stored; 1 more are added when it is opened"
            )
    file.write_bytes(damage(before))
    assert check(path) == 61
    whole = file.read_bytes()
    assert whole not in (before, damage(before))
    with Index.open(path, embedder=HashingEmbedder()) as index:
        index.add([Document("newer", "something newer"), Document("newest", "the newest")])  # two on 61
        assert file.read_bytes() != whole
        assert index.verify()[-1].endswith("63 vectors, equal to those stored")


def test_what_is_removed_is_not_left_in_a_file_newer_than_its_manifest(path: Path) -> None:
    """A writer may be killed between putting the file and the manifest in place."""
    manifest = (path / MANIFEST_FILE).read_bytes()
    with Index.open(path, embedder=HashingEmbedder()) as index:
        index.add([Document("new", "something new"), Document("newer", "something newer")])
        vectors = [index.store.vectors(index.store.passage_ids([one]))[1] for one in ("new", "newer")]
    (path / MANIFEST_FILE).write_bytes(manifest)
    with Index.open(path, embedder=HashingEmbedder()) as index:
        index.remove(["new", "newer"])
    held = (path / VECTORS_FILE).read_bytes()
    assert not any(vector.tobytes() in held for vector in vectors)
    assert check(path) == 60


def test_a_manifest_of_before_files_could_lag_is_read(path: Path) -> None:
    file = path / MANIFEST_FILE
    content = json.loads(file.read_text())
    content = {name: content[name] for name in content if name not in ("built", "last", "checksum")}
    text = json.dumps({**content, "checksum": hashlib.sha256(json.dumps(content).encode()).hexdigest()})
    file.write_text(text)
    before = (path / VECTORS_FILE).stat().st_mtime_ns
    assert check(path) == 60
    assert (path / VECTORS_FILE).stat().st_mtime_ns == before
    with Index.open(path, embedder=HashingEmbedder()) as index:
        index.add([Document("new", "something new")])
        assert index.verify()[-1].endswith("61 vectors, equal to those stored")


def test_what_is_removed_is_not_left_in_a_file_that_lags(path: Path) -> None:
    file = path / VECTORS_FILE
    with Index.open(path, embedder=HashingEmbedder()) as index:
        index.add([Document("new", "something quite new")])
        (row,) = index.store.passage_ids(["d3"])
        vector = index.store.vectors(np.array([row]))[1].tobytes()
        assert vector in file.read_bytes()
        index.remove(["d3"])
        assert vector not in file.read_bytes()
    assert check(path) == 60


def test_a_full_disk_keeps_the_last_commit(path: Path) -> None:
    with Index.open(path, embedder=HashingEmbedder()) as index:
        connection = index.store.database.connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(IndexWriteFailed, match="full"):
            index.add([Document(f"big{i}", "much text " * 500) for i in range(50)])
    assert check(path) == 60


def test_an_exception_in_the_middle_rolls_back(path: Path) -> None:
    class Failing(HashingEmbedder):
        def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:  # noqa: ARG002
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Index.build(documents(60, 1), path, embedder=Failing("other", salt=3))
    assert check(path) == 60


def test_a_folder_that_cannot_be_written_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path / VECTORS_FILE).unlink()
    (path / "lock").unlink()
    before = sorted(path.iterdir())

    def refuse(*_: object) -> bool:
        return False

    monkeypatch.setattr("rag_chat.index.database.os.access", refuse)  # tests may run as root
    monkeypatch.setattr("rag_chat.index.lock.os.open", _no_writing)
    with Index.open(path, embedder=HashingEmbedder()) as index:
        assert len(index.search("document 3", k=60, mode="dense")) == 60
        with pytest.raises(IndexWriteFailed):
            index.remove(["d1"])
    assert sorted(path.iterdir()) == before


def _no_writing(*_: object) -> int:
    raise PermissionError("read-only")


def test_threads_share_an_index(path: Path) -> None:
    with Index.open(path, embedder=HashingEmbedder()) as index:
        expected = [index.search(f"document {i}") for i in range(8)]
        found: dict[int, object] = {}

        def run(i: int) -> None:
            found[i] = [index.search(f"document {i}") for _ in range(5)]

        threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {i: [expected[i]] * 5 for i in range(8)}
