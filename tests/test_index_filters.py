"""Filters work inside the search: the best k of what is allowed, whenever there are k of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from writer_process import HashingEmbedder

from rag_chat.config import IndexSettings, IndexType
from rag_chat.index import dense
from rag_chat.retrieval.index import Index
from rag_chat.types import Document

COUNT = 300
VALUES = {"colour": ["red", "green", "blue"], "year": [2019, 2020, 2021, 2022], "good": [True, False]}


@pytest.fixture(scope="module", params=["flat", "hnsw", "ivf", "ivfpq"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    draw = np.random.default_rng(1)
    many = [
        Document(
            f"f{i}",
            f"text {i} about {i % 17} and {i % 23}",
            metadata={key: values[draw.integers(len(values))] for key, values in VALUES.items()},
        )
        for i in range(COUNT)
    ]
    kind: IndexType = request.param
    folder = tmp_path_factory.mktemp(kind) / "index"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "FLAT_BELOW", 200)
        chosen = IndexSettings(index_type=kind)
        with Index.build(many, folder, embedder=HashingEmbedder(), settings=chosen) as built:
            assert built.info()["index_type"] == kind
            yield built


wanted = st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in VALUES.items()})


@settings(max_examples=15, deadline=None)
@given(filter=wanted, k=st.integers(1, COUNT), about=st.integers(0, 40))
def test_a_filter_is_brute_force(index: Index, filter: dict[str, object], k: int, about: int) -> None:
    query = f"text about {about}"
    ids, vectors = index.store.vectors()
    passages = index.store.passages(ids.tolist())
    inside = np.array([filter.items() <= dict(passages[i].metadata).items() for i in ids.tolist()])
    exact = np.sort(vectors[inside] @ index.embedder.embed([query], query=True)[0])[::-1][:k]

    hits = index.search(query, k, mode="dense", filter=filter)  # type: ignore[arg-type]
    assert len(hits) == min(k, inside.sum())
    assert all(filter.items() <= dict(hit.passage.metadata).items() for hit in hits)
    assert len({hit.passage.id for hit in hits}) == len(hits)
    kind = index.info()["index_type"]
    if kind == "flat" or (filter and kind != "ivfpq"):  # approximate where there is no filter, or for PQ
        np.testing.assert_allclose([hit.score for hit in hits], exact, atol=1e-5)
    assert len(index.search(query, k, filter=filter)) == len(hits)  # type: ignore[arg-type]
