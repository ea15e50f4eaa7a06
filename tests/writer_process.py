"""An embedder without torch, and a process that writes an index with it until it is killed."""

from __future__ import annotations

import itertools
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag_chat.retrieval.index import Index
from rag_chat.types import Document, EmbedderIdentity

DIMENSION = 16


class HashingEmbedder:
    """Words hashed into 16 numbers: texts that share words are near. Counts what it embeds."""

    def __init__(self, name: str = "hashing", salt: int = 0) -> None:
        self.identity = EmbedderIdentity(name, str(salt), DIMENSION)
        self.salt = salt
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        self.texts += [] if query else texts
        return np.stack([self._one(text) for text in texts])

    def _one(self, text: str) -> NDArray[np.float32]:
        vector = np.full(DIMENSION, 1e-3, np.float32)
        for word in text.lower().split():
            generator = np.random.default_rng(zlib.crc32(word.encode()) + self.salt)
            vector += generator.normal(size=DIMENSION).astype(np.float32)
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def documents(count: int, version: int) -> list[Document]:
    """`count` documents, of which each third changes with the version and each seventh comes and goes."""
    return [
        Document(f"d{i}", f"document {i} says {i * (version if i % 3 == 0 else 1)}. " * 5, metadata={"n": i})
        for i in range(count)
        if i % 7 or version % 2
    ]


def main(folder: Path) -> None:
    """Build and sync for ever; every batch of 16 passages is a commit."""
    import rag_chat.index.ingest

    rag_chat.index.ingest.BATCH_PASSAGES = 16
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for version in itertools.count(1):
        with Index.build(documents(120, version), folder, embedder=HashingEmbedder()):
            pass


if __name__ == "__main__":
    main(Path(sys.argv[1]))
