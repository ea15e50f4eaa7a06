"""Nearest neighbours among unit vectors: everything that touches FAISS."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rag_chat.config import IndexType

Kind = Literal["flat", "hnsw", "ivf", "ivfpq"]
Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

# Under this many vectors exact search takes about a millisecond and nothing approximate pays.
FLAT_BELOW = 5_000
# Up to here "auto" searches exactly: about 30 ms a query on one core, at 384 dimensions.
AUTO_FLAT_BELOW = 200_000
OVERFETCH = 4  # product quantization: so many times k come back and are scored again exactly
MAX_EFFORT = 1024  # candidates of a graph
TRAINING_POINTS = 64  # vectors a list that k-means looks at: 256 take four times as long for the same recall


class DenseIndex:
    """A FAISS index whose ids are passage rows. Cosines are inner products of unit vectors."""

    def __init__(self, faiss_index: Any, kind: Kind, recall: float | None = None) -> None:
        self._index = faiss_index
        self.kind = kind
        self.recall = recall

    @classmethod
    def build(cls, vectors: Vectors, ids: Ids, kind: IndexType, recall: float = 0.95) -> DenseIndex:
        """Index `vectors`: (n, dim) float32, unit rows, under `ids`: (n,) int64.

        An approximate kind is tuned on these vectors until it finds the share `recall` of the ten
        nearest, and keeps what was measured. Few vectors are always searched exactly.
        """
        chosen = choose(kind, len(ids))
        index = _faiss().index_factory(
            vectors.shape[1], _recipe(chosen, *vectors.shape), _faiss().METRIC_INNER_PRODUCT
        )
        if chosen in ("ivf", "ivfpq"):
            _train(index, vectors)
        index.add_with_ids(np.ascontiguousarray(vectors), ids)
        built = cls(index, chosen)
        if chosen != "flat":
            built.recall = _tune(built, vectors, ids, recall)
        return built

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        return int(self._index.d)

    @property
    def lossy(self) -> bool:
        """Whether cosines are approximations, to be computed again from the stored vectors."""
        return self.kind == "ivfpq"

    @property
    def ids(self) -> Ids:
        """The ids in it: (n,) int64, ascending."""
        if self.kind in ("flat", "hnsw"):
            return np.sort(_faiss().vector_to_array(self._index.id_map))
        lists = self._index.invlists
        parts = [
            _faiss().rev_swig_ptr(lists.get_ids(i), lists.list_size(i)).copy()
            for i in range(lists.nlist)
            if lists.list_size(i)
        ]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)

    def vectors(self, ids: Ids) -> Vectors | None:
        """Return the vectors of `ids`: (n, dim) float32; None for a kind that does not tell."""
        if self.kind not in ("flat", "hnsw"):
            return None
        return np.asarray(self._index.reconstruct_batch(ids), dtype=np.float32)

    def add(self, vectors: Vectors, ids: Ids) -> None:
        """Add vectors: (n, dim) float32, unit rows, under new ids: (n,) int64. Not for a graph."""
        self._index.add_with_ids(np.ascontiguousarray(vectors), ids)

    def remove(self, ids: Ids) -> None:
        """Remove `ids`: (n,) int64. Not for a graph."""
        self._index.remove_ids(ids)

    def search(self, queries: Vectors, k: int, allowed: Ids | None = None) -> tuple[Ids, Vectors]:
        """Find the k nearest of each query: (q, dim) float32, unit rows.

        Returns ids (q, m) int64 and cosines (q, m) float32 in [-1, 1], best first, ties by id,
        where m = min(k, number of vectors allowed). `allowed`: (n,) int64 restricts the search
        (None: all) and is searched exactly.
        """
        found = min(k, len(self) if allowed is None else len(allowed))
        if found == 0:
            return np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
        if allowed is None:
            cosines, ids = self._index.search(queries, found)
            if (ids < 0).any():  # an approximate search came back with less than it was asked for
                cosines, ids = self._exhaustive(queries, found, self.ids)
        else:
            cosines, ids = self._exhaustive(queries, found, allowed)
        return ordered(ids, np.clip(cosines, -1.0, 1.0))

    def _exhaustive(self, queries: Vectors, k: int, allowed: Ids) -> tuple[Vectors, Ids]:
        if self.kind == "hnsw":  # a graph cannot promise to reach every vector that is allowed
            return _brute_force(queries, k, allowed, self._index.reconstruct_batch(allowed))
        selector = _faiss().IDSelectorBatch(np.ascontiguousarray(allowed))
        if self.kind == "flat":
            parameters = _faiss().SearchParameters(sel=selector)
        else:
            parameters = _faiss().SearchParametersIVF(sel=selector, nprobe=self._index.nlist)
        cosines, ids = self._index.search(queries, k, params=parameters)
        return cosines, ids

    def set_effort(self, effort: int) -> None:
        """Set how much a search looks at: lists (IVF) or candidates (HNSW)."""
        if self.kind == "hnsw":
            _faiss().downcast_index(self._index.index).hnsw.efSearch = effort
        elif self.kind != "flat":
            self._index.nprobe = min(effort, self._index.nlist)

    @property
    def max_effort(self) -> int:
        """The effort at which more would not help: with all its lists IVF is exhaustive."""
        return MAX_EFFORT if self.kind == "hnsw" else int(self._index.nlist)

    def write(self, path: Path) -> None:
        """Write it to one file; raises OSError."""
        data = _faiss().serialize_index(self._index)
        with path.open("wb") as file:
            file.write(data.data)

    @classmethod
    def read(cls, path: Path, kind: Kind, recall: float | None) -> DenseIndex:
        """Read what `write` wrote; raises RuntimeError or OSError. Check its digest first."""
        faiss = _faiss()
        if not hasattr(faiss, "set_deserialization_vector_byte_limit"):  # before FAISS 1.14
            return cls(faiss.read_index(str(path)), kind, recall)
        before = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(max(path.stat().st_size, 1 << 20))
        try:  # no array is larger than its file
            return cls(faiss.read_index(str(path)), kind, recall)
        finally:
            faiss.set_deserialization_vector_byte_limit(before)


def choose(kind: IndexType, count: int) -> Kind:
    """Return the kind of index that is built for `count` vectors when `kind` is asked for."""
    if kind == "auto":
        return "flat" if count < AUTO_FLAT_BELOW else "ivf"
    return "flat" if count < FLAT_BELOW else kind


def ordered(ids: Ids, scores: Vectors) -> tuple[Ids, Vectors]:
    """Sort each row best first, ties by id. Both (q, k)."""
    order = np.lexsort((ids, -scores), axis=1)
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _faiss() -> Any:
    """Import FAISS where it is used: lexical search does without. Its type stubs lag behind it."""
    import faiss

    return faiss


def _recipe(kind: Kind, count: int, dimension: int) -> str:
    lists = round(4 * math.sqrt(count))  # FAISS guidelines for choosing an index: 4 to 16 sqrt(n)
    codes = max(m for m in range(1, dimension // 4 + 1) if dimension % m == 0)
    return {
        "flat": "IDMap2,Flat",
        "hnsw": "IDMap2,HNSW32",
        "ivf": f"IVF{lists},Flat",
        "ivfpq": f"IVF{lists},PQ{codes}x8np",  # np: no training for Hamming codes (seconds a byte)
    }[kind]


def _train(index: Any, vectors: Vectors) -> None:
    index.cp.min_points_per_centroid = 1  # FAISS warns on stderr under 39 a centroid
    index.cp.max_points_per_centroid = TRAINING_POINTS
    if hasattr(index, "pq"):
        index.pq.cp.min_points_per_centroid = 1
    index.train(np.ascontiguousarray(vectors))


def _tune(index: DenseIndex, vectors: Vectors, ids: Ids, target: float) -> float:
    """Raise the effort until `target` is reached on 200 of the user's own vectors.

    Returns the recall at 10 in [0, 1] against exact search, the vector itself left out.
    """
    sample = np.random.default_rng(0).choice(len(ids), 200, replace=False)
    _, exact = _brute_force(vectors[sample], 11, ids, vectors)
    reach = 11 * OVERFETCH if index.lossy else 11
    recall, effort = 0.0, 4
    while recall < target and effort < 2 * index.max_effort:
        index.set_effort(effort)
        found, _ = index.search(vectors[sample], reach)
        shared = [len(set(mine[1:]) & set(theirs)) for mine, theirs in zip(exact, found, strict=True)]
        recall, effort = float(np.mean(shared)) / 10, effort * 2
    return recall


def _brute_force(queries: Vectors, k: int, ids: Ids, vectors: Vectors) -> tuple[Vectors, Ids]:
    cosines = queries @ vectors.T
    top = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosines, top, axis=1), ids[top]
