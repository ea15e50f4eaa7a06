"""Queries, cold start, a durable addition and BM25: real prose, vectors that cluster as real ones do.

python benchmarks/search.py [--passages 10000 --rounds 3 --queries 40]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from data import Cache
from measure import ROOT, report, rounds, run, timed
from peers import Given, HuggingFaceStyle, langchain_store


def per_query(search: Callable[[str], object], queries: Sequence[str]) -> dict[str, float]:
    """CPU milliseconds: the median and the 90th percentile, after one query to warm up."""
    search(queries[0])
    taken = []
    for query in queries:
        started = time.process_time()
        search(query)
        taken.append(1000 * (time.process_time() - started))
    return {
        "p50_ms": round(statistics.median(taken), 2),
        "p90_ms": round(statistics.quantiles(taken, n=10)[-1], 2),
    }


def loaded(place: Path, embeddings: object):  # type: ignore[no-untyped-def]
    from langchain_community.vectorstores import FAISS

    return FAISS.load_local(str(place), embeddings, allow_dangerous_deserialization=True)


def arm(name: str, count: int, cache: Cache, queries: int) -> None:
    from rag_chat import Document, Index

    ours, theirs = cache.folder / f"ours-{count}", cache.folder / f"langchain-{count}"
    asked = cache.questions()[:queries]
    if name == "build-ours":
        documents = [Document(f"doc-{n}", text) for n, text in enumerate(cache.passages()[:count])]
        Index.build(documents, ours, embedder=Given(cache.vectors(count))).close()
    elif name == "build-langchain":
        langchain_store(cache.passages()[:count], Given(cache.vectors(count))).save_local(str(theirs))
    elif name == "query-ours":
        with Index.open(ours) as index:
            print(json.dumps(per_query(lambda query: index.search(query, 5), asked)))
    elif name == "query-langchain":
        store = loaded(theirs, HuggingFaceStyle())
        print(json.dumps(per_query(lambda query: store.similarity_search(query, k=5), asked)))
    elif name == "cold-langchain":
        loaded(theirs, HuggingFaceStyle()).similarity_search(asked[0], k=5)
    elif name in ("add-ours", "add-langchain"):
        added(name, count, cache, ours, theirs)
    else:
        print(json.dumps(lexical(name, cache, ours, count, asked)))


def added(name: str, count: int, cache: Cache, ours: Path, theirs: Path) -> None:
    """Add 100 passages to a copy, until they are on the disk."""
    from rag_chat import Document, Index

    texts = [f"Addition {n}. {text}" for n, text in enumerate(cache.passages()[:100])]
    with tempfile.TemporaryDirectory(dir=cache.folder) as folder:
        place = Path(folder) / "copy"
        shutil.copytree(ours if name == "add-ours" else theirs, place)
        stub = Given(cache.vectors(count))
        if name == "add-ours":
            with Index.open(place, embedder=stub) as index:
                index.search("oil", mode="dense")  # in both arms the vectors are in memory beforehand
                documents = [Document(f"new-{n}", text) for n, text in enumerate(texts)]
                took = timed(lambda: index.add(documents))
        else:
            store = loaded(place, stub)

            def add() -> None:
                store.add_texts(texts)
                store.save_local(str(place))

            took = timed(add)
    print(json.dumps(took))


def lexical(name: str, cache: Cache, ours: Path, count: int, asked: Sequence[str]) -> dict[str, float]:
    from rag_chat import Index
    from rag_chat.retrieval.lexical import telling_words

    if name == "bm25-ours":
        with Index.open(ours) as index:
            return per_query(lambda query: index._words.search(query, 100), asked)
    if name == "bm25-fts5":
        connection = sqlite3.connect(ours / "passages.sqlite")
        query = """SELECT rowid, -bm25(lexical) AS score FROM lexical WHERE lexical MATCH ?
            ORDER BY score DESC, rowid LIMIT 100"""
        expressions = [" OR ".join(f'"{word}"' for word in telling_words(question)) for question in asked]
        return per_query(lambda words: connection.execute(query, (words,)).fetchall(), expressions)
    import bm25s

    retriever = bm25s.BM25()
    retriever.index(bm25s.tokenize(cache.passages()[:count], show_progress=False), show_progress=False)
    return per_query(
        lambda query: retriever.retrieve(
            bm25s.tokenize(query, show_progress=False), k=100, show_progress=False
        ),
        asked,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--work", type=Path, default=Path("indexes/bench"))
    parser.add_argument("--arm")
    given = parser.parse_args()
    cache = Cache(given.work)
    if given.arm:
        arm(given.arm, given.passages, cache, given.queries)
        return
    cache.vectors(given.passages)
    fixed = [f"--passages={given.passages}", f"--queries={given.queries}", f"--work={given.work}"]

    def command(name: str) -> list[str]:
        return [sys.executable, __file__, *fixed, f"--arm={name}"]

    results = {"passages": given.passages, "rounds": given.rounds, "queries": given.queries}
    for name in ("ours", "langchain"):
        if not (given.work / f"{name}-{given.passages}").exists():
            results[f"build-{name}"] = run(command(f"build-{name}"))
    names = [
        "query-ours",
        "query-langchain",
        "add-ours",
        "add-langchain",
        "bm25-ours",
        "bm25-fts5",
        "bm25-bm25s",
    ]
    arms = {name: command(name) for name in [*names, "cold-langchain"]}
    index = str(given.work / f"ours-{given.passages}")
    arms["cold-ours"] = [
        sys.executable,
        str(ROOT / "cli.py"),
        "search",
        index,
        cache.questions()[0],
        "--json",
    ]
    report(f"search-{given.passages}", {**results, **rounds(arms, given.rounds)}, given.work)


if __name__ == "__main__":
    main()
