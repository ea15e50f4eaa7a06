"""FAISS agrees with brute force, with and without a filter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rag_chat.config import IndexType
from rag_chat.index import dense
from rag_chat.index.dense import DenseIndex


def unit(seed: int, count: int, dimension: int = 8) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 40), k=st.integers(1, 50), data=st.data())
def test_search_is_brute_force(seed: int, count: int, k: int, data: st.DataObject) -> None:
    vectors, ids = unit(seed, count), np.arange(count, dtype=np.int64) * 3 + 1
    queries = unit(seed + 1, 3)
    chosen = data.draw(st.none() | st.sets(st.sampled_from(ids.tolist()))) if count else None
    allowed = None if chosen is None else np.array(sorted(chosen), dtype=np.int64)
    found, cosines = DenseIndex.build(vectors, ids, "auto").search(queries, k, allowed)

    inside = np.ones(count, bool) if allowed is None else np.isin(ids, allowed)
    exact = np.sort(queries @ vectors[inside].T, axis=1)[:, ::-1][:, :k]
    assert found.shape == exact.shape
    assert found.dtype == np.int64
    np.testing.assert_allclose(cosines, exact, atol=1e-5)
    own = np.take_along_axis(queries @ vectors.T, (found - 1) // 3, axis=1) if count else exact
    np.testing.assert_allclose(cosines, own, atol=1e-5)
    assert set(found.ravel().tolist()) <= set(ids[inside].tolist())


def test_ties_are_broken_by_id_and_cosines_stay_in_range() -> None:
    vectors = np.repeat(unit(1, 1), 5, axis=0)
    ids = np.array([9, 2, 7, 4, 5], dtype=np.int64)
    found, cosines = DenseIndex.build(vectors, ids, "flat").search(vectors[:1], 5)
    assert found.tolist() == [[2, 4, 5, 7, 9]]
    assert cosines.max() <= 1.0


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf", "ivfpq"])
def test_every_kind(
    kind: IndexType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Recall is measured and reached, a filter returns exactly the best k, a file is read back equal."""
    monkeypatch.setattr(dense, "FLAT_BELOW", 500)
    vectors, ids = unit(3, 600, 8), np.arange(1, 601, dtype=np.int64) * 2
    index = DenseIndex.build(vectors, ids, kind)
    assert (index.kind, len(index), index.dimension) == (kind, 600, 8)
    assert index.ids.tolist() == ids.tolist()
    if kind != "flat":
        assert index.recall is not None
        assert index.recall >= 0.95
    queries, allowed = unit(4, 5), ids[::40]
    found, cosines = index.search(queries, 10, allowed)
    exact = np.sort(queries @ vectors[::40].T, axis=1)[:, ::-1][:, :10]
    assert set(found.ravel().tolist()) <= set(allowed.tolist())
    np.testing.assert_allclose(cosines, exact, atol=0.2 if index.lossy else 1e-5)

    index.write(tmp_path / "file")
    again = DenseIndex.read(tmp_path / "file", index.kind, index.recall)
    np.testing.assert_array_equal(again.search(queries, 7)[0], index.search(queries, 7)[0])
    assert capfd.readouterr() == ("", "")


def test_an_approximate_search_returns_k(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "FLAT_BELOW", 100)
    vectors, ids = unit(5, 300), np.arange(300, dtype=np.int64)
    index = DenseIndex.build(vectors, ids, "ivf")
    index.set_effort(1)
    assert (index.search(vectors[:3], 250)[0] >= 0).all()
    assert index.search(vectors[:3], 250)[0].shape == (3, 250)


def test_few_vectors_are_searched_exactly() -> None:
    assert DenseIndex.build(unit(1, 50), np.arange(50, dtype=np.int64), "hnsw").kind == "flat"


def test_auto_is_exact_and_then_tuned_to_the_recall_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "AUTO_FLAT_BELOW", 600)
    vectors, ids = unit(6, 700), np.arange(700, dtype=np.int64)
    assert DenseIndex.build(vectors[:599], ids[:599], "auto").kind == "flat"
    index = DenseIndex.build(vectors[:650], ids[:650], "auto", recall=1.0)
    assert (index.kind, index.recall) == ("ivf", 1.0)
    index.add(vectors[650:], ids[650:])
    index.remove(ids[:50])
    assert index.ids.tolist() == ids[50:].tolist()
    found, cosines = index.search(unit(7, 4), 10)
    exact = np.sort(unit(7, 4) @ vectors[50:].T, axis=1)[:, ::-1][:, :10]
    assert np.isin(found, ids[50:]).all()
    assert np.isclose(cosines, exact, atol=1e-5).mean() > 0.9
