"""Ingestion: end to end with the model, and our own overhead with a stub in its place.

python benchmarks/ingestion.py [--passages 300 --stub 10000 --rounds 3]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from data import Cache
from measure import report, rounds, timed
from peers import Given, HuggingFaceStyle, langchain_store, raw


def arm(name: str, count: int, cache: Cache) -> None:
    texts = cache.passages()[:count]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "index"
        vectors = cache.vectors(count) if name.startswith("stub") else np.empty((0, 384), np.float32)
        if name.endswith("langchain"):
            embeddings = Given(vectors) if len(vectors) else HuggingFaceStyle()
            took = timed(lambda: langchain_store(texts, embeddings).save_local(str(place)))
        elif name.endswith("raw"):
            took = timed(lambda: raw(texts, vectors, place))
        else:
            took = timed(ours(texts, place, vectors, "int8" if name.endswith("int8") else "fp32"))
    print(json.dumps(took))


def ours(texts, place, vectors, precision):  # type: ignore[no-untyped-def]
    from rag_chat import Document, Index
    from rag_chat.index.minilm import MiniLmEmbedder

    documents = [Document(f"doc-{n}", text) for n, text in enumerate(texts)]
    embedder = Given(vectors) if len(vectors) else MiniLmEmbedder(precision)
    return lambda: Index.build(documents, place, embedder=embedder).close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=300)
    parser.add_argument("--stub", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("indexes/bench"))
    parser.add_argument("--arm", nargs=2)
    given = parser.parse_args()
    cache = Cache(given.work)
    if given.arm:
        arm(given.arm[0], int(given.arm[1]), cache)
        return
    cache.vectors(given.stub)

    def command(name: str, count: int) -> list[str]:
        return [sys.executable, __file__, "--work", str(given.work), "--arm", name, str(count)]

    model = {name: command(name, given.passages) for name in ("ours", "ours-int8", "langchain")}
    stub = {f"stub-{name}": command(f"stub-{name}", given.stub) for name in ("ours", "langchain", "raw")}
    results = {"passages": given.passages, "stub_passages": given.stub, "rounds": given.rounds}
    report("ingestion", {**results, **rounds({**model, **stub}, given.rounds)}, given.work)


if __name__ == "__main__":
    main()
