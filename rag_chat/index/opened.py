"""An index folder as it is read: what it holds, what it was built with, and its nearest passages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import numpy as np

from rag_chat.config import PACKAGED_EMBEDDER, IndexSettings, from_mapping
from rag_chat.errors import EmbedderMismatch, ModelError
from rag_chat.index.database import Database
from rag_chat.index.dense import OVERFETCH, Ids, Vectors, choose, ordered
from rag_chat.index.derived import Derived, check_agreement, read_manifest
from rag_chat.index.embedding import AnyEmbedder, load_embedder, reference_of, same_embedder
from rag_chat.index.packaged import verify_packaged
from rag_chat.index.store import Store
from rag_chat.index.verify import verify
from rag_chat.types import Embedder, EmbedderIdentity, Passage


class OpenedIndex:
    """The documents, passages and vectors of one folder. Threads may share it.

    What a process reads is always one committed state, also while another process is writing.
    """

    def __init__(self, path: str | Path, embedder: AnyEmbedder | None = None) -> None:
        self.path = Path(path)
        manifest = read_manifest(self.path)  # before the database: what it names was committed then
        self._database = Database(self.path)
        try:
            check_agreement(self._database, manifest)
        except BaseException:
            self._database.close()
            raise
        self.store = Store(self._database)
        self._derived = Derived(self.store)
        self._given = embedder
        self._embedder: Embedder | None = None
        self._loading = threading.Lock()

    @classmethod
    def open(cls, path: str | Path, *, embedder: AnyEmbedder | None = None) -> Self:
        """Open an index. The embedder is loaded, and held against the index, when it is first needed.

        Raises IndexNotFound, IndexCorrupt, or IndexFault for a format of a later version.
        """
        return cls(path, embedder)

    def verify(self) -> list[str]:
        """Check everything that is stored against everything it must agree with.

        Returns what was checked; raises IndexCorrupt naming the damaged file, or ModelError when the
        packaged embedder is not the one that was pinned.
        """
        checked = verify(self.store)
        if self.identity.name == PACKAGED_EMBEDDER:
            verify_packaged()
            checked.append(f"{PACKAGED_EMBEDDER}: its weights are those that were pinned")
        return checked

    def info(self) -> dict[str, Any]:
        """Return counts, embedder and size; `recall` too where search is approximate."""
        with self.snapshot():
            passages = self.store.count_passages()
            manifest = read_manifest(self.path)
            facts = {
                "passages": passages,
                "documents": self.store.count("topic"),
                "dialogues": self.store.count("dialogue"),
                "embedder": self.identity.name,
                "dimension": self.identity.dimension,
                "index_type": choose(self.settings.index_type, passages),
                "format_version": self._database.meta("format_version"),
                "generation": self._database.meta("generation"),
                "bytes": sum(one.stat().st_size for one in self.path.iterdir() if one.is_file()),
            }
        if manifest and manifest.recall is not None:
            facts["recall"] = manifest.recall
        return facts

    @property
    def settings(self) -> IndexSettings:
        """How the index was built."""
        return from_mapping(IndexSettings, self._database.meta("settings"))

    @property
    def identity(self) -> EmbedderIdentity:
        """The embedder that the vectors come from."""
        return EmbedderIdentity(**self._database.meta("embedder"))

    @property
    def embedder(self) -> Embedder:
        """The embedder, loaded on first use. Raises EmbedderMismatch or ModelError."""
        loaded = self._loaded()
        if not same_embedder(loaded.identity, self.identity):
            raise self._mismatch(loaded)
        return loaded

    def snapshot(self) -> AbstractContextManager[object]:
        """Hold one consistent state of the index while reading; other threads wait."""
        return self._database.snapshot()

    def dense_search(self, queries: Vectors, k: int, allowed: Ids | None = None) -> tuple[Ids, Vectors]:
        """Find the k nearest passages of each query: see `DenseIndex.search`. Cosines are exact."""
        with self.snapshot():
            dense = self._derived.current(self.settings)
            if not dense.lossy:
                return dense.search(queries, k, allowed)
            ids, _ = dense.search(queries, k * OVERFETCH, allowed)
            cosines = [self.cosines(query, row) for query, row in zip(queries, ids, strict=True)]
        ids, scores = ordered(ids, np.stack(cosines))
        return ids[:, :k], scores[:, :k]

    def cosines(self, query: Vectors, ids: Ids) -> Vectors:
        """Return the cosines (n,) in [-1, 1] of a unit vector (dim,) with the passages `ids` (n,)."""
        rows, vectors = self.store.vectors(ids)
        found = vectors[np.searchsorted(rows, ids)] @ query
        return np.asarray(np.clip(found, -1.0, 1.0), dtype=np.float32)

    def document_text(self, source: str) -> str | None:
        """Return the text that the spans of a document's passages refer to; None when unknown."""
        return self.store.text(source)

    def has_source(self, source: str) -> bool:
        return self.store.state(source) is not None

    def resolve_source(self, name: str) -> str | None:
        """Return the one source that is `name` or ends in "/name"; None for none or several."""
        found = self.store.resolve(name)
        return found[0] if len(found) == 1 else None

    def passage(self, name: str) -> Passage | None:
        """Return the passage of that id, None when it is not in the index."""
        return self.store.passage(name)

    def passages(self) -> Iterator[Passage]:
        """Yield every passage, in the order they were added."""
        return (passage for _, passage in self.store.all_passages())

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _loaded(self) -> Embedder:
        """Return the embedder, whether it is the index's own or not."""
        with self._loading:
            if self._embedder is None:
                self._embedder = self._load_embedder()
        return self._embedder

    def _load_embedder(self) -> Embedder:
        if self._given is not None:
            return load_embedder(self._given)
        if not self.settings.embedder:
            raise ModelError(
                f"The index {self.path} was built with the embedder {self.identity.name}, an object.",
                f"Pass it again: Index.open({str(self.path)!r}, embedder=...).",
            )
        return load_embedder(self.settings.embedder, precision=self.settings.embed_precision)

    def _mismatch(self, other: Embedder) -> EmbedderMismatch:
        name = reference_of(other)
        command = f"run: rag-chat index rebuild {self.path} --embedder {name}"
        return EmbedderMismatch(
            f"The index {self.path} was built with {_described(self.identity)}, "
            f"and this is {_described(other.identity)}.",
            f"Open it with its own, or {command if name else 'call: index.rebuild(embedder=...)'}",
        )


def _described(identity: EmbedderIdentity) -> str:
    revision = f" ({identity.revision})" if identity.revision else ""
    return f"the embedder {identity.name}{revision} of dimension {identity.dimension} in {identity.precision}"
