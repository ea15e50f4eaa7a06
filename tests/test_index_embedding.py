"""Embedders: unit rows, identity, refusals; the packaged model and LangChain's interface."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding

from rag_chat.errors import ModelError, UsageError
from rag_chat.index import arrays, packaged
from rag_chat.index.embedding import (
    LangChainEmbedder,
    SentenceTransformerEmbedder,
    load_embedder,
    same_embedder,
    token_spans_of,
    word_spans,
)
from rag_chat.index.sentence_transformer import require_bf16
from rag_chat.types import EmbedderIdentity

TEXTS = ["Golf.", "Kyoto has temples and gardens. Cherry trees bloom in April.", "", "Rice and tea"]


def test_rows_are_unit_and_in_order(tiny_embedder: SentenceTransformerEmbedder) -> None:
    vectors = tiny_embedder.embed(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((4, 32), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(tiny_embedder.embed([text])[0], vector, atol=1e-5)
    assert tiny_embedder.embed([]).shape == (0, 32)


def test_identity_follows_the_weights_not_the_place(
    tiny_embedder: SentenceTransformerEmbedder, tmp_path: Path
) -> None:
    renamed = tmp_path / "renamed"
    Path(tiny_embedder.reference).rename(renamed)
    try:
        again = load_embedder(renamed).identity
    finally:
        renamed.rename(tiny_embedder.reference)
    assert again.name == "renamed"
    assert (again.pooling, again.dimension, len(again.revision)) == ("mean", 32, 16)
    assert same_embedder(again, tiny_embedder.identity)


def test_same_embedder() -> None:
    one = EmbedderIdentity("a", "1", 8)
    assert same_embedder(one, EmbedderIdentity("b", "1", 8))
    assert not same_embedder(one, EmbedderIdentity("a", "2", 8))
    assert not same_embedder(one, EmbedderIdentity("a", "1", 8, query_prefix="query: "))
    assert not same_embedder(EmbedderIdentity("a", "", 8), EmbedderIdentity("b", "", 8))


def test_prefixes_are_those_of_the_model(tiny_embedder: SentenceTransformerEmbedder, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(tiny_embedder.reference, device="cpu")
    model.prompts = {"query": "boil ", "document": "rice "}
    model.save(str(tmp_path / "model"))
    prefixed = SentenceTransformerEmbedder(tmp_path / "model")
    assert (prefixed.identity.query_prefix, prefixed.identity.document_prefix) == ("boil ", "rice ")
    np.testing.assert_allclose(prefixed.embed(["tea"]), tiny_embedder.embed(["rice tea"]), atol=1e-5)
    np.testing.assert_allclose(
        prefixed.embed(["tea"], query=True), tiny_embedder.embed(["boil tea"]), atol=1e-5
    )


def test_token_spans(tiny_embedder: SentenceTransformerEmbedder, capfd: pytest.CaptureFixture[str]) -> None:
    text = "Boil  an egg, zo. " * 200
    spans = tiny_embedder.token_spans(text)
    assert [text[start:end] for start, end in spans[:7]] == ["Boil", "an", "egg", ",", "z", "o", "."]
    assert len(spans) == 1400
    assert capfd.readouterr() == ("", "")
    assert token_spans_of(LangChainEmbedder(DeterministicFakeEmbedding(size=4))) is word_spans
    assert word_spans("Go, now!") == [(0, 2), (2, 3), (4, 7), (7, 8)]


def test_langchain_embeddings_are_normalised() -> None:
    embedder = load_embedder(DeterministicFakeEmbedding(size=12))
    assert embedder.identity == EmbedderIdentity("langchain:DeterministicFakeEmbedding", "", 12, pooling="")
    np.testing.assert_allclose(np.linalg.norm(embedder.embed(["a", "b"]), axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(embedder.embed(["a"]), embedder.embed(["a"], query=True))
    assert load_embedder(embedder) is embedder


@pytest.mark.parametrize("rows", [[[1.0, float("nan")]], [[float("inf"), 1.0]], [[0.0, 0.0]], [[1.0]]])
def test_vectors_without_direction_are_refused(rows: Sequence[Sequence[float]]) -> None:
    with pytest.raises(ModelError, match="broken"):
        arrays.unit_rows(rows, (1, 2), "broken")


def test_what_is_no_embedder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="int is not an embedder"):
        load_embedder(3)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="could not be loaded"):
        load_embedder(tmp_path)


def test_the_packaged_embedder_is_the_pinned_one(monkeypatch: pytest.MonkeyPatch) -> None:
    packaged.verify_packaged()
    monkeypatch.setattr(packaged, "PACKAGED_SHA256", "0" * 64)
    with pytest.raises(ModelError, match="other weights"):
        packaged.verify_packaged()
    monkeypatch.setattr(packaged, "PACKAGED_BYTES", 1)
    with pytest.raises(ModelError, match="incomplete"):
        packaged.packaged_path()


def test_importing_and_lexical_search_load_no_torch(tmp_path: Path) -> None:
    program = """
import sys
from writer_process import HashingEmbedder, documents
from rag_chat.retrieval.index import Index
Index.build(documents(3, 1), sys.argv[1], embedder=HashingEmbedder()).close()
with Index.open(sys.argv[1]) as index:
    assert index.search("document", mode="lexical")
assert "torch" not in sys.modules and "transformers" not in sys.modules
"""
    tests = Path(__file__).parent
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "index")],
        check=True,
        env={"PYTHONPATH": f"{tests}:{tests.parent}"},
    )


def test_precision_is_part_of_the_identity(tiny_embedder: SentenceTransformerEmbedder) -> None:
    half = load_embedder(tiny_embedder.reference, precision="bf16")
    assert half.identity.precision == "bf16"
    assert not same_embedder(half.identity, tiny_embedder.identity)
    cosines = np.sum(half.embed(TEXTS) * tiny_embedder.embed(TEXTS), axis=1)
    assert (cosines > 0.99).all()
    assert (cosines < 1 - 1e-7).any()
    with pytest.raises(UsageError, match="packaged embedder only"):
        load_embedder(tiny_embedder.reference, precision="int8")


def test_bf16_is_refused_where_it_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    require_bf16()
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    with pytest.raises(ModelError, match="AVX512-BF16"):
        require_bf16()


def test_batches_of_many_lengths_keep_their_order(
    tiny_embedder: SentenceTransformerEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["Boil an egg. " * n for n in (1, 40, 3, 25, 2, 40, 7)]
    together = tiny_embedder.embed(texts)
    monkeypatch.setattr(tiny_embedder, "_budget", 32)
    np.testing.assert_allclose(tiny_embedder.embed(texts), together, atol=1e-5)
