"""The packaged embedder without torch gives sentence-transformers' vectors, or says that it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_chat.errors import ModelError
from rag_chat.index import embedding, minilm, packaged
from rag_chat.index.arrays import token_batches
from rag_chat.index.embedding import load_embedder, same_embedder
from rag_chat.index.minilm import MiniLmEmbedder
from rag_chat.index.sentence_transformer import SentenceTransformerEmbedder

TEXTS = [
    "Rinse the rice until the water is clear.",
    "",
    "  Où voit-on l'aurore boréale ? 北極光 🌌\n\tAnd an unknownlylongwordthatispieces.",
    "Green tea is steeped at 75 degrees for two minutes. " * 40,  # longer than the model reads
    "Golf",
]


@pytest.fixture(scope="module")
def exact() -> MiniLmEmbedder:
    return MiniLmEmbedder()


def test_vectors_are_those_of_sentence_transformers(exact: MiniLmEmbedder) -> None:
    reference = SentenceTransformerEmbedder(device="cpu")
    np.testing.assert_allclose(exact.embed(TEXTS), reference.embed(TEXTS), atol=minilm.TOLERANCE, rtol=0)
    assert same_embedder(exact.identity, reference.identity)
    assert (exact.max_tokens, exact.reference) == (reference.max_tokens, reference.reference)
    assert [exact.token_spans(text) for text in TEXTS] == [reference.token_spans(text) for text in TEXTS]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_vector_does_not_depend_on_its_company(exact: MiniLmEmbedder, precision: str) -> None:
    embedder = exact if precision == "fp32" else MiniLmEmbedder("int8")
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(embedder.embed(TEXTS), alone, atol=1e-6)
    assert embedder.embed([]).shape == (0, 384)
    assert (np.sum(alone * exact.embed(TEXTS), axis=1) > minilm.INT8_COSINE).all()
    assert same_embedder(embedder.identity, exact.identity) == (precision == "fp32")


def test_the_gpu_and_other_models_are_left_to_sentence_transformers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert isinstance(load_embedder("all-MiniLM-L6-v2", device="cpu"), MiniLmEmbedder)
    assert isinstance(load_embedder(packaged.packaged_path()), SentenceTransformerEmbedder)
    monkeypatch.setattr(embedding, "GPU_DEVICES", (str(tmp_path),))
    assert isinstance(load_embedder("all-MiniLM-L6-v2"), SentenceTransformerEmbedder)


def test_other_vectors_are_noticed_when_it_loads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for file in minilm.GRAPH_FOLDER.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(minilm, "GRAPH_FOLDER", tmp_path)
    MiniLmEmbedder()
    reference = np.load(tmp_path / minilm.REFERENCE_FILE)
    np.save(tmp_path / minilm.REFERENCE_FILE, np.roll(reference, 1))
    for precision in minilm.GRAPHS:
        with pytest.raises(ModelError, match="other vectors than sentence-transformers"):
            MiniLmEmbedder(precision)
    (tmp_path / minilm.GRAPHS["fp32"]).write_bytes(b"no graph")
    with pytest.raises(ModelError, match="could not load"):
        MiniLmEmbedder()


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes((4).to_bytes(8, "little") + b"{}}}" + bytes(64))
    with pytest.raises(ModelError, match="damaged file of weights"):
        minilm._tensors(weights)


def test_the_graphs_are_those_that_graph_py_writes() -> None:
    pytest.importorskip("onnx")
    from rag_chat.index.graph import minilm as graph

    for precision, file in minilm.GRAPHS.items():
        assert (minilm.GRAPH_FOLDER / file).read_bytes() == graph(int8=precision == "int8")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(2, 256), max_size=40), st.integers(1, 600))
def test_batches_hold_every_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(token_batches(lengths, budget))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
        assert lengths[batch[0]] == max(lengths[i] for i in batch)


def test_hybrid_search_loads_no_torch(tmp_path: Path) -> None:
    program = """
import sys
from rag_chat.retrieval.index import Index
from rag_chat.types import Document
Index.build([Document("tea", "Green tea is steeped at 75 degrees.")], sys.argv[1]).close()
with Index.open(sys.argv[1]) as index:
    assert index.search("How hot is tea?")[0].dense > 0.5
heavy = {"torch", "transformers", "sentence_transformers"} & set(sys.modules)
assert not heavy, heavy
"""
    root = Path(__file__).parents[1]
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "index")], check=True, env={"PYTHONPATH": str(root)}
    )
