"""A golden index for each format: `python tests/golden_index.py` makes that of this version, once."""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_chat.config import SearchMode
from rag_chat.index.schema import FORMAT_VERSION
from rag_chat.retrieval.index import Index
from rag_chat.types import Dialogue, Document, EmbedderIdentity, Message

GOLDEN = Path(__file__).parent / "golden"
QUERIES = ("northern lights in winter", "How hot is the oven?", "crème brûlée")
MODES: tuple[SearchMode, ...] = ("dense", "lexical")  # how both are fused is no part of the format
TEXTS = {
    "travel/north.md": "Northern lights are seen in winter, far from towns.",
    "food/pizza.md": "The oven is as hot as it can be: 300 degrees.",
    "food/crème.md": "A crème brûlée rests in the cold before its sugar burns.",
}
CORPUS = [
    *(Document(name, text, name[:6], {"topic": name.partition("/")[0]}) for name, text in TEXTS.items()),
    Dialogue("d1", (Message("user", "When are lights seen?"), Message("assistant", "In winter, up north."))),
]


class Remembering:
    """An embedder that knows some texts by heart, so that no other software decides what is found."""

    def __init__(self, vectors: Mapping[str, Sequence[float]]) -> None:
        self.identity = EmbedderIdentity("golden", "1", 8)
        self.vectors = {text: list(vector) for text, vector in vectors.items()}

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:  # noqa: ARG002
        return np.array([self.vectors[text] for text in texts], np.float32)


class Drawing(Remembering):
    """An embedder that draws a vector for each new text."""

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        for text in texts:
            drawn = np.random.default_rng(len(self.vectors)).normal(size=8).astype(np.float32)
            self.vectors.setdefault(text, (drawn / np.linalg.norm(drawn)).tolist())
        return super().embed(texts, query=query)


def found(index: Index) -> dict[str, Any]:
    """Return what every query finds, as JSON."""
    facts: dict[str, Any] = {
        f"{mode}: {query}": [[hit.passage.id, hit.passage.text, round(hit.score, 5)] for hit in hits]
        for query in QUERIES
        for mode in MODES
        for hits in [index.search(query, 3, mode=mode)]
    }
    only = index.search(QUERIES[1], 3, filter={"topic": "food"})
    return {**facts, "food only": sorted(hit.passage.id for hit in only)}


def main() -> None:
    place, embedder = GOLDEN / f"format-{FORMAT_VERSION}", Drawing({})
    if place.exists():
        raise SystemExit(f"{place} is there: a released format does not change.")
    place.mkdir(parents=True)
    folder = Path(tempfile.mkdtemp()) / "index"
    with Index.build(CORPUS, folder, embedder=embedder) as index:
        expected = {"found": found(index), "vectors": embedder.vectors}
    text = json.dumps(expected, ensure_ascii=False, indent=1)
    (place / "expected.json").write_text(text + "\n", encoding="utf-8")
    with zipfile.ZipFile(place / "index.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.iterdir()):
            file.write(path, path.name)
    sys.stdout.write(f"wrote {place}\n")


if __name__ == "__main__":
    main()
