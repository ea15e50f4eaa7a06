"""What people use today, and a stub that takes the place of the model: for comparison only."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from rag_chat.config import PACKAGED_EMBEDDER
from rag_chat.index.packaged import packaged_path, packaged_revision
from rag_chat.types import EmbedderIdentity


class HuggingFaceStyle(Embeddings):
    """What langchain_huggingface.HuggingFaceEmbeddings does; that package conflicts with our pins."""

    def __init__(self) -> None:
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(str(packaged_path()), device="cpu")

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.model.encode([text.replace("\n", " ") for text in texts]).tolist()

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


class Given(Embeddings):
    """Vectors made beforehand, handed out in order; to an index it is the packaged embedder."""

    reference = PACKAGED_EMBEDDER
    identity = EmbedderIdentity(PACKAGED_EMBEDDER, packaged_revision(), 384)

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors
        self._next = 0

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:  # noqa: ARG002
        rows = self._vectors[np.arange(self._next, self._next + len(texts)) % len(self._vectors)]
        self._next += len(texts)
        return rows

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.embed(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        return self.embed([text])[0].tolist()


def langchain_store(texts: Sequence[str], embeddings: Embeddings) -> Any:
    from langchain_community.vectorstores import FAISS
    from langchain_core.documents import Document

    documents = [Document(text, metadata={"source": f"doc-{n}"}) for n, text in enumerate(texts)]
    return FAISS.from_documents(documents, embeddings)


def raw(texts: Sequence[str], vectors: NDArray[np.float32], folder: Path) -> None:
    """The least that could serve hybrid search: texts and words in SQLite, vectors in a FAISS file."""
    import faiss

    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / "raw.sqlite")
    connection.execute(
        "CREATE TABLE passages (id INTEGER PRIMARY KEY, source TEXT, text TEXT, metadata TEXT)"
    )
    connection.execute(
        "CREATE VIRTUAL TABLE words USING fts5 (text, content='', tokenize='porter unicode61')"
    )
    rows = [(n, f"doc-{n}", text, json.dumps({})) for n, text in enumerate(texts, 1)]
    connection.executemany("INSERT INTO passages VALUES (?, ?, ?, ?)", rows)
    connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", ((r[0], r[2]) for r in rows))
    connection.commit()
    connection.close()
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors[: len(texts)])
    faiss.write_index(index, str(folder / "raw.faiss"))
