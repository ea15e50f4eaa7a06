"""SIGKILL at any moment, again and again on the same folder: nothing acknowledged is lost."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from children import call, child
from writer_process import (
    HashingEmbedder,
    State,
    Step,
    build_counting,
    keep_committing,
    keep_reading,
    keep_writing,
    state_of,
    step,
    versions,
    whole_state,
)

from rag_chat.errors import IndexNotFound
from rag_chat.index.ingest import BATCH_PASSAGES
from rag_chat.retrieval.index import Index
from rag_chat.types import Document

OPERATIONS = ("build", "add", "sync", "remove", "rebuild")


def received(connection: Connection) -> Iterator[object]:
    """Yield what a killed process had sent."""
    try:
        while True:
            yield connection.recv()
    except (EOFError, ConnectionResetError):
        return


def kill_one(operation: str, first: int, folder: Path, moments: random.Random) -> tuple[int, int | None]:
    """Kill a writer; return its last step, and how many documents that step had committed (None: all)."""
    with child(keep_writing, operation, first, folder) as (process, connection):
        told = [connection.recv() for _ in range(moments.randrange(1, 14))]
        time.sleep(moments.uniform(0, 0.03))
        process.kill()
        process.join()
        told += received(connection)
    begun = max(i for i, message in enumerate(told) if isinstance(message, tuple))
    *_, last = 0, *told[begun + 1 :]
    return told[begun][1], None if last == "done" else last


def allowed(before: State, one: Step, seen: int | None) -> Iterator[State]:
    """Yield every state that a kill may leave: all that was acknowledged, and any commits after it."""
    if seen is not None:
        for count in range(seen, len(one.given) + 1):
            yield before | state_of(one.given[:count])
    yield one.after(before)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_loses_nothing(operation: str, kills: int, tmp_path: Path) -> None:
    moments = random.Random(f"{operation} {kills}")
    folder, state, number, ends = tmp_path / "index", State(), 0, set[int | None]()
    started = time.monotonic()
    for _ in range(kills):
        last, seen = kill_one(operation, number, folder, moments)
        for one in range(number, last):
            state = step(operation, one).after(state)
        try:
            now: State = call(whole_state, folder)
        except IndexNotFound:
            assert not state
            assert not seen
            now = {}
        assert now in allowed(state, step(operation, last), seen), (operation, last, seen)
        state, number = now, last + 1 if seen is None else last
        ends.add(seen)
    sys.stdout.write(f"{operation}: {kills} kills, {number} steps, {time.monotonic() - started:.1f} s\n")
    assert number > kills // 4
    names = {"lock", "manifest.json", "passages.sqlite", "vectors.faiss"}
    assert {one.name for one in folder.iterdir()} == names


@pytest.mark.parametrize("seconds", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_readers_see_whole_states_and_none_goes_back(seconds: int, tmp_path: Path) -> None:
    count, readers = 24, 8
    Index.build(versions(count, 1), tmp_path / "index", embedder=HashingEmbedder()).close()
    with ExitStack() as running:
        readings = [child(keep_reading, tmp_path / "index", count) for _ in range(readers)]
        connections = [running.enter_context(one)[1] for one in readings]
        assert [connection.recv() for connection in connections] == ["reading"] * readers
        process, writer = running.enter_context(child(keep_committing, tmp_path / "index"))
        started, commits = time.monotonic(), 0
        while time.monotonic() - started < seconds or commits < 3:  # a busy machine takes its time
            assert time.monotonic() - started < seconds + 60
            assert process.is_alive()  # no reader has come in its way
            if writer.poll(0.1):
                commits = writer.recv()
        for connection in connections:
            connection.send("stop")
        results = [connection.recv() for connection in connections]
    reads, seen, wrong = zip(*results, strict=True)
    sys.stdout.write(f"{readers} readers, {commits} commits, {sum(reads)} reads, {sum(seen)} versions seen\n")
    assert [one for problems in wrong for one in problems] == []
    assert min(reads) > 0
    assert sum(seen) > readers


@pytest.mark.parametrize(("passages", "kills"), [(2_000, 3), pytest.param(20_000, 8, marks=pytest.mark.slow)])
def test_a_killed_build_embeds_at_most_one_batch_again(passages: int, kills: int, tmp_path: Path) -> None:
    moments, embedded = random.Random(passages), 0
    started = time.monotonic()
    for _ in range(kills):
        with child(build_counting, tmp_path / "index", passages) as (process, connection):
            for _ in range(moments.randrange(1, max(2, passages // BATCH_PASSAGES // kills))):
                embedded += connection.recv()
            time.sleep(moments.uniform(0, 0.2))
            process.kill()
            process.join()
            embedded += sum(one for one in received(connection) if isinstance(one, int))
    with child(build_counting, tmp_path / "index", passages) as (_, connection):
        *last, done = received(connection)
    embedded += sum(int(str(one)) for one in last)
    sys.stdout.write(f"{passages} passages, {kills} kills: {embedded - passages} embedded again, ")
    sys.stdout.write(f"{time.monotonic() - started:.1f} s\n")
    assert done == "done"
    assert passages <= embedded <= passages + kills * BATCH_PASSAGES
    assert len(call(whole_state, tmp_path / "index")) == passages


def test_the_same_corpus_twice_gives_the_same_index(tmp_path: Path, tiny_index: Index) -> None:
    corpus = [Document(f"s{i}", f"Boil {'an egg ' * (i % 9)}for {i} minutes.") for i in range(40)]
    parts = [corpus[:7], corpus[7:8], corpus[8:]]  # shared with other texts, batches differ
    with Index.build(corpus, tmp_path / "one", embedder=tiny_index.embedder) as one:
        expected = list(one.passages()), one.store.vectors()
    with Index.build(parts[0], tmp_path / "two", embedder=tiny_index.embedder) as two:
        for part in parts[1:]:
            two.add(part)
        found = list(two.passages()), two.store.vectors()
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1][0], expected[1][0])
    np.testing.assert_allclose(found[1][1], expected[1][1], atol=1e-6)
