"""Whatever happens to the bytes of an index: the same answers or IndexCorrupt; not others, not a crash."""

from __future__ import annotations

import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from children import child
from writer_process import HashingEmbedder

from rag_chat.config import SearchMode
from rag_chat.errors import IndexCorrupt
from rag_chat.retrieval.index import Index
from rag_chat.types import Dialogue, Document, Message

QUERIES = ("document 3 says something", "topic green", "reply 17", "nothing of this kind")
MODES: tuple[SearchMode, ...] = ("dense", "lexical", "hybrid")
FILTERS: tuple[dict[str, Any], ...] = (
    {"n": 3}, {"colour": "green"}, {"kind": "dialogue"}, {"source": "d7"}, {"kind": "topic", "n": 5},
)  # fmt: skip


class Mutation(NamedTuple):
    """What is done to a file: a flipped bit, zeros, a cut, another file in its place, or nothing left."""

    file: str
    kind: str
    at: int = 0
    size: int = 0
    other: Path | None = None

    def apply(self, folder: Path) -> None:
        path = folder / self.file
        content = bytearray(path.read_bytes())
        if self.kind == "flip":
            content[self.at] ^= 1 << self.size
        elif self.kind == "zero":
            content[self.at : self.at + self.size] = bytes(len(content[self.at : self.at + self.size]))
        elif self.kind == "cut":
            del content[self.at :]
        elif self.other:
            content = bytearray(self.other.read_bytes())
        path.write_bytes(content)
        if self.kind == "missing":
            path.unlink()


def corpus(version: int) -> list[Document | Dialogue]:
    topics = [
        Document(
            f"d{i}",
            f"document {i} says something {i * version} of topic {i % 7}. " * 3,
            f"Title {i}",
            {"n": i % 9, "colour": ("green", "red")[i % 2]},
        )
        for i in range(120)
    ]
    chats = [
        Dialogue(f"c{i}", (Message("user", f"ask {i} what?"), Message("assistant", f"reply {i} said")))
        for i in range(40)
    ]
    return [*topics, *chats]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An index; an older state of it; another one; and one whose last commits are still in the WAL."""
    place = tmp_path_factory.mktemp("damage")
    embedder = HashingEmbedder()
    Index.build(corpus(1), place / "index", embedder=embedder).close()
    shutil.copytree(place / "index", place / "older")
    with Index.open(place / "index", embedder=embedder) as index:
        index.add(corpus(2)[:30])
        index.remove(["d100"])
    Index.build(corpus(3), place / "other", embedder=embedder).close()
    shutil.copytree(place / "older", place / "live")
    with Index.open(place / "live", embedder=embedder) as reader, reader.snapshot():
        reader.info()
        with Index.open(place / "live", embedder=embedder) as index:
            index.add(corpus(2)[:30])
        shutil.copytree(place / "live", place / "wal")
    assert (place / "wal" / "passages.sqlite-wal").stat().st_size > 0
    return {name: place / name for name in ("index", "older", "other", "wal")}


def answers(folder: Path) -> list[object]:
    """Everything that can be asked of an index, asked."""
    with Index.open(folder, embedder=HashingEmbedder()) as index:
        found: list[object] = [
            *(index.search(query, 12, mode=mode) for query in QUERIES for mode in MODES),
            *(index.search(QUERIES[0], 12, mode=mode, filter=one) for one in FILTERS for mode in MODES[:2]),
            index.search(QUERIES[1], 200, mode="dense"),
        ]
        facts = index.info()
        del facts["bytes"]
        names = [f"{letter}{i}" for letter in "dcx" for i in (0, 7, 39, 100, 119)]
        texts = [(name, index.document_text(name), index.resolve_source(name)) for name in names]
        return [*found, facts, texts, list(index.passages()), index.settings, index.identity]


def verify(folder: Path) -> None:
    with Index.open(folder) as index:
        index.verify()


def judge(mutations: Sequence[Mutation], pristine: Path, place: Path, connection: Connection) -> None:
    """Say what becomes of an index by each mutation."""
    expected = answers(shutil.copytree(pristine, place / "expected"))
    for mutation in mutations:
        folder = shutil.copytree(pristine, place / "trial")
        mutation.apply(folder)
        verdict = outcome(lambda: answers(folder) == expected, folder)  # noqa: B023
        if verdict == "True" and (after := outcome(lambda: verify(folder), folder)) != "None":  # noqa: B023
            verdict = f"True, but verify: {after}"
        connection.send(verdict)
        shutil.rmtree(folder)


def outcome(run: Callable[[], object], folder: Path) -> str:
    """Return what `run` returned, as text, or how it failed: "named" is as it should be."""
    try:
        return str(run())
    except IndexCorrupt as error:
        mend = "rag-chat index" in error.fix or "rm " in error.fix
        return "named" if str(folder) in error.problem and mend else f"unclear: {error}"
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"


HARMLESS = {"True", "True, but verify: named", "named"}


def mutations(folders: dict[str, Path], which: str, count: int, seed: int) -> list[Mutation]:
    """Draw mutations; half of those inside the database hit the first bytes of a page, its structure."""
    draw = random.Random(seed)
    files = {one.name: one.stat().st_size for one in sorted(folders[which].iterdir())}
    big = [name for name, size in files.items() if size > 4096]
    drawn = []
    for _ in range(count):
        file = draw.choice([*files, *big, "passages.sqlite", "passages.sqlite"])
        kind = draw.choices(("flip", "zero", "cut", "swap", "missing"), (55, 20, 13, 10, 2))[0]
        at = draw.randrange(max(1, files[file]))
        if draw.random() < 0.5:
            at = min(at - at % 4096 + draw.randrange(100), max(0, files[file] - 1))
        others = [folders[one] / file for one in ("older", "other")]
        other = draw.choice([*others, *sorted(folders[which].iterdir())])
        if kind == "swap" and (
            not other.exists() or other.read_bytes() == (folders[which] / file).read_bytes()
        ):
            kind = "cut"
        if kind == "flip" and not files[file]:
            kind = "missing"
        size = draw.randrange(8) if kind == "flip" else draw.choice((1, 64, 512, 4096))
        drawn.append(Mutation(file, kind, at, size, other))
    return drawn


def run(
    folders: dict[str, Path], which: str, count: int, seed: int, place: Path
) -> list[tuple[Mutation, str]]:
    """Return each mutation with what became of it; a child that dies is replaced, and has crashed."""
    todo, done = mutations(folders, which, count, seed), list[tuple[Mutation, str]]()
    while len(done) < count:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        with child(judge, todo[len(done) :], folders[which], place) as (process, connection):
            try:
                while len(done) < count:
                    done.append((todo[len(done)], connection.recv()))
            except EOFError:
                process.join()
                done.append((todo[len(done)], f"crashed: {process.exitcode}"))
    return done


@pytest.mark.parametrize(
    ("which", "count"),
    [
        ("index", 100),
        ("wal", 30),
        pytest.param("index", 1600, marks=pytest.mark.slow),
        pytest.param("wal", 400, marks=pytest.mark.slow),
    ],
)
def test_damage_is_harmless_or_named(
    folders: dict[str, Path], which: str, count: int, tmp_path: Path
) -> None:
    done = run(folders, which, count, count, tmp_path / "trials")
    sys.stdout.write(f"{Counter((one.kind, verdict) for one, verdict in done)}\n")
    assert [(one, verdict) for one, verdict in done if verdict not in HARMLESS] == []
