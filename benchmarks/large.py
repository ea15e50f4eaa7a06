"""Approximate search over many vectors: recall, and how many times faster than looking at all of them.

python benchmarks/large.py [--vectors 1000000 --recall 0.95 --rounds 3]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import faiss
import numpy as np
from data import Cache
from measure import report

from rag_chat.index.dense import DenseIndex

ASKED = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("indexes/bench"))
    given = parser.parse_args()
    faiss.omp_set_num_threads(1)
    every = np.asarray(Cache(given.work).vectors(given.vectors + ASKED))
    vectors, asked = every[:-ASKED], every[-ASKED:]  # drawn alike, and not in the index
    ids = np.arange(given.vectors, dtype=np.int64)
    started = time.process_time()
    ours = DenseIndex.build(vectors, ids, "auto", given.recall)
    built = time.process_time() - started
    flat = DenseIndex.build(vectors, ids, "flat", given.recall)
    taken: dict[str, list[float]] = {"ours": [], "flat": []}
    found = {}
    for _ in range(given.rounds):
        for name, index in (("flat", flat), ("ours", ours)):
            started = time.process_time()
            found[name] = [index.search(query[None], 10)[0][0] for query in asked]
            taken[name].append(1000 * (time.process_time() - started) / ASKED)
    shared = [len(np.intersect1d(*both)) for both in zip(found["flat"], found["ours"], strict=True)]
    ms = {f"{name}_ms": round(float(np.median(every)), 3) for name, every in taken.items()}
    results = {
        "vectors": given.vectors,
        "index_type": ours.kind,
        "build_cpu_s": round(built, 1),
        "recall_tuned": ours.recall,
        "recall_measured": float(np.mean(shared)) / 10,
        **ms,
        "times_faster": round(ms["flat_ms"] / ms["ours_ms"], 1),
    }
    report(f"large-{given.vectors}", results, given.work)


if __name__ == "__main__":
    main()
