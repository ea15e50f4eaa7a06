"""An embedder without torch, and processes that write and read an index with it until they are killed."""

from __future__ import annotations

import functools
import itertools
import re
import zlib
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import rag_chat.index.ingest
from rag_chat.retrieval.index import Index
from rag_chat.types import Document, EmbedderIdentity

DIMENSION = 16
SMALL_BATCH = 16  # passages a commit

State = dict[str, str]
"""What an index holds: the text of each document, by source."""

AGREEMENT = (
    r"vectors\.faiss: (\d+) vectors, equal to those stored(?:; (\d+) more are added when it is opened)?"
)


class HashingEmbedder:
    """Words hashed into 16 numbers: texts that share words are near. Keeps what it has embedded."""

    def __init__(self, name: str = "hashing", salt: int = 0) -> None:
        self.identity = EmbedderIdentity(name, str(salt), DIMENSION)
        self.salt = salt
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        self.texts += [] if query else texts
        return np.stack([self._one(text) for text in texts])

    def _one(self, text: str) -> NDArray[np.float32]:
        vector = np.full(DIMENSION, 1e-3, np.float32) + sum(
            _word(one, self.salt) for one in text.lower().split()
        )
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


@functools.cache
def _word(word: str, salt: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(zlib.crc32(word.encode()) + salt)
    return generator.normal(size=DIMENSION).astype(np.float32)


def documents(count: int, version: int) -> list[Document]:
    """`count` documents, of which each third changes with the version and each seventh comes and goes."""
    return [
        Document(f"d{i}", f"document {i} says {i * (version if i % 3 == 0 else 1)}. " * 5, metadata={"n": i})
        for i in range(count)
        if i % 7 or version % 2
    ]


def state_of(documents: Sequence[Document]) -> State:
    return {one.source: one.text for one in documents}


# What is done to an index, step by step


class Step(NamedTuple):
    """One operation: what it is given, and what it removes at its end."""

    operation: str
    given: Sequence[Document] = ()
    removed: frozenset[str] = frozenset()

    def after(self, before: State) -> State:
        """Return what the index holds afterwards."""
        kept = {source: text for source, text in before.items() if source not in self.removed}
        return kept | state_of(self.given)


COUNT = 60


def step(operation: str, number: int) -> Step:
    """Return the step of that number, for an index that is used by this operation alone."""
    every = frozenset(f"d{i}" for i in range(COUNT))
    given = documents(COUNT, number)
    if operation in ("build", "sync"):
        return Step(operation, given, every - {one.source for one in given})
    if operation == "remove" and number % 2:
        return Step("remove", removed=frozenset(f"d{i}" for i in range(number % 5, COUNT, 5)))
    if operation == "rebuild" and number:
        return Step("re-embed" if number % 2 else "rebuild")
    return Step("add", given)


def take(one: Step, number: int, folder: Path, connection: Connection) -> None:
    """Do a step, and tell after each commit how many documents were seen."""

    def progress(seen: int, _: int) -> None:
        connection.send(seen)

    if one.operation == "build" or not (folder / "passages.sqlite").exists():
        Index.build(one.given, folder, embedder=HashingEmbedder(), progress=progress).close()
        return
    with Index.open(folder) as index:
        index = Index.open(folder, embedder=embedder_of(index))
    with index:
        if one.operation == "add":
            index.add(one.given, progress=progress)
        elif one.operation == "sync":
            index.sync(one.given, progress=progress)
        elif one.operation == "remove":
            index.remove(sorted(one.removed))
        else:
            other = HashingEmbedder(f"other {number}", number)
            index.rebuild(embedder=other if one.operation == "re-embed" else None)


def keep_writing(operation: str, first: int, folder: Path, connection: Connection) -> None:
    """Take steps for ever; before each tell its number, after it -1."""
    rag_chat.index.ingest.BATCH_PASSAGES = SMALL_BATCH
    for number in itertools.count(first):
        connection.send(("step", number))
        take(step(operation, number), number, folder, connection)
        connection.send("done")


def embedder_of(index: Index) -> HashingEmbedder:
    return HashingEmbedder(index.identity.name, int(index.identity.revision))


def whole_state(folder: Path) -> State:
    """Return what an index holds; AssertionError when its parts do not agree."""
    with Index.open(folder) as plain, Index.open(folder, embedder=embedder_of(plain)) as index:
        passages = list(index.passages())
        found = index.search("document 3", k=10_000, mode="dense")
        assert len(found) == len(passages) == index.info()["passages"]
        assert {hit.passage.id for hit in found} == {passage.id for passage in passages}
        agreement = re.fullmatch(AGREEMENT, index.verify()[-1])
        assert agreement
        assert sum(int(count or 0) for count in agreement.groups()) == len(passages)
        return {source: str(index.document_text(source)) for source in index.store.sources()}


# Reading while another writes


def versions(count: int, version: int) -> list[Document]:
    return [Document(f"v{i}", f"common word of version {version}", metadata={"n": i}) for i in range(count)]


def keep_committing(folder: Path, connection: Connection) -> None:
    """Commit one version after another, each in one commit."""
    with Index.open(folder, embedder=HashingEmbedder()) as index:
        for version in itertools.count(2):
            index.add(versions(len(list(index.passages())), version))
            connection.send(version)


def keep_reading(folder: Path, count: int, connection: Connection) -> None:
    """Read until told to stop, and once more; send how often, how many versions were seen, what was wrong.

    Something is sent after the first reading, too.
    """
    reads, seen, wrong = 0, [0], list[str]()
    modes = itertools.cycle(("dense", "lexical", "hybrid"))
    stop = False
    while not stop:
        stop = connection.poll()
        with Index.open(folder, embedder=HashingEmbedder()) as index:
            for mode in itertools.islice(modes, 20):
                hits = index.search("common version", k=count, mode=mode)  # type: ignore[arg-type]
                found = {int(hit.passage.text.split()[-1]) for hit in hits}
                reads += 1
                if len(hits) != count or len(found) != 1 or min(found) < seen[-1]:
                    wrong.append(f"{mode}: {len(hits)} hits of versions {found} after {seen[-1]}")
                elif min(found) > seen[-1]:
                    seen.append(min(found))
        if reads == 20:
            connection.send("reading")
    connection.send((reads, len(seen) - 1, wrong))


# Building in parts


def build_counting(folder: Path, count: int, connection: Connection) -> None:
    """Build an index of `count` passages and send how many texts each call of the embedder had."""

    class Counting(HashingEmbedder):
        def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
            connection.send(len(texts))
            return super().embed(texts, query=query)

    many = [Document(f"m{i}", f"text {i % 97} of number {i}") for i in range(count)]
    Index.build(many, folder, embedder=Counting()).close()
    connection.send("done")
