"""Past conversations made retrievable: with their owner's consent, and for their owner alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rag_chat.errors import IndexNotFound
from rag_chat.retrieval.index import Index
from rag_chat.types import Dialogue, Embedder, Hit

if TYPE_CHECKING:
    from rag_chat.conversation.sessions import SessionStore

FOLDER = "memory"
MOST = 2
"""How many past exchanges a turn is shown at most: they come among the documents, not instead of them."""

NEAR = 0.5
"""The least cosine at which a past exchange says something about a turn."""


class Memory:
    """The exchanges of past conversations, in an index beside the file that keeps them.

    One index, made with the embedder of whoever asks, serves all owners; the owner is a filter within each
    search. Making a Memory takes in what the owner said in other sessions: that is the consent.
    """

    def __init__(self, store: SessionStore, current: str, embedder: Embedder) -> None:
        """Raises IndexLocked while another process takes in conversations."""
        self._owner = store.owner
        self._current = identity(store.owner, current)
        self._embedder = embedder
        self._folder = _root(store.path) / _name(embedder)
        past = [_remembered(store, one.id) for one in store.list() if one.id != current]
        if past:
            self._folder.parent.mkdir(mode=0o700, exist_ok=True)
            with self._index() as index:
                index.add(past)

    def search(self, query: str) -> list[Hit]:
        """Find up to MOST past exchanges of the owner, by meaning, the nearest first."""
        try:
            opened = Index.open(self._folder, embedder=self._embedder)
        except IndexNotFound:
            return []
        with opened as index:
            mine = {"owner": self._owner}
            hits = index.search(query, MOST, mode="dense", filter=mine, exclude_sources=[self._current])
        return [hit for hit in hits if hit.score >= NEAR]

    def _index(self) -> Index:
        try:
            return Index.open(self._folder, embedder=self._embedder)
        except IndexNotFound:  # the folder may be there: another process is making it, or was killed at it
            return Index.build([], self._folder, embedder=self._embedder)


def identity(owner: str, session: str) -> str:
    """The name of a conversation in the memory, which tells nothing of its owner."""
    return f"{hashlib.sha256(owner.encode()).hexdigest()[:16]}/{session}"


def forget(path: Path, source: str) -> None:
    """Erase a conversation, by its identity, from the memory beside `path`: vectors, text, words."""
    for folder in _root(path).glob("*/"):
        with suppress(IndexNotFound), Index.open(folder) as index:
            index.remove([source])


def with_memories(hits: Sequence[Hit], memories: Sequence[Hit], k: int) -> list[Hit]:
    """Put each memory before the first passage that is less near to the query, and keep the k first."""
    merged = list(_merged(list(hits), list(memories)))[:k]
    return [replace(hit, rank=rank) for rank, hit in enumerate(merged, 1)]


def _merged(hits: list[Hit], memories: list[Hit]) -> Iterator[Hit]:
    for hit in hits:
        while memories and (hit.dense or 0.0) < memories[0].score:
            yield memories.pop(0)
        yield hit
    yield from memories


def _remembered(store: SessionStore, session: str) -> Dialogue:
    said = store.export(session)
    about = {"owner": store.owner, "session": session}
    return Dialogue(identity(store.owner, session), said.messages, "An earlier conversation", about)


def _root(path: Path) -> Path:
    return path.with_name(FOLDER)


def _name(embedder: Embedder) -> str:
    """A folder for each embedder, as vectors of two cannot be compared."""
    one = embedder.identity
    return hashlib.sha256(f"{one}".encode()).hexdigest()[:12]
