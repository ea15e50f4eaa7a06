"""Reranking with a tiny real cross-encoder."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import models
import pytest
from click.testing import CliRunner

from rag_chat.commands import cli
from rag_chat.errors import ModelError
from rag_chat.retrieval.index import Index
from rag_chat.retrieval.reranking import CrossEncoderReranker

if TYPE_CHECKING:
    from collections.abc import Iterator

QUERY = "How long do I boil an egg?"


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A one-layer BERT of width 32 with one output, random weights, saved as a cross-encoder."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("cross-encoder")
    tokenizer = models.wordpiece()
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=1,
        initializer_range=0.5,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reranker(cross_encoder: Path) -> CrossEncoderReranker:
    return CrossEncoderReranker(cross_encoder, device="cpu")


@pytest.fixture
def reranked(tiny_index: Index, reranker: CrossEncoderReranker) -> Iterator[Index]:
    tiny_index.reranker = reranker
    yield tiny_index
    tiny_index.reranker = None


def test_the_same_hits_in_the_models_order(tiny_index: Index, reranker: CrossEncoderReranker) -> None:
    hits = tiny_index.search(QUERY, 13)
    found = reranker.rerank(QUERY, hits)
    assert {hit.passage.id for hit in found} == {hit.passage.id for hit in hits}
    assert [hit.rank for hit in found] == list(range(1, 14))
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    assert [hit.passage.id for hit in found] != [hit.passage.id for hit in hits]
    for hit in found:  # one pair at a time gives what all together gave
        (alone,) = reranker.rerank(QUERY, [hit])
        assert alone.score == pytest.approx(hit.score, abs=1e-5)
    assert reranker.rerank(QUERY, []) == []


def test_search_reads_more_than_it_returns(reranked: Index, reranker: CrossEncoderReranker) -> None:
    best = reranked.search(QUERY, 2)
    reranked.reranker = None
    every = reranker.rerank(QUERY, reranked.search(QUERY, 50))
    assert [hit.passage.id for hit in best] == [hit.passage.id for hit in every[:2]]
    assert best[0].dense is not None


def test_search_many_is_search(reranked: Index) -> None:
    queries = [QUERY, "green tea"]
    for query, hits in zip(queries, reranked.search_many(queries, 3, mode="lexical"), strict=True):
        assert [h.passage.id for h in hits] == [
            h.passage.id for h in reranked.search(query, 3, mode="lexical")
        ]


def test_a_score_that_is_no_number_is_refused(tiny_index: Index, cross_encoder: Path) -> None:
    broken = CrossEncoderReranker(cross_encoder, device="cpu")
    broken._model.model.classifier.bias.data.fill_(math.nan)
    with pytest.raises(ModelError, match="not a number") as caught:
        broken.rerank(QUERY, tiny_index.search(QUERY))
    assert "without --rerank" in caught.value.fix


def test_a_reranker_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="could not be loaded"):
        CrossEncoderReranker(tmp_path / "none")


def test_from_the_command_line(tiny_index: Index, cross_encoder: Path, reranked: Index) -> None:
    args = ["search", str(tiny_index.path), QUERY, "-k", "3", "--json", "--rerank", str(cross_encoder)]
    result = CliRunner().invoke(cli, args, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    ids = [hit["passage_id"] for hit in json.loads(result.stdout)]
    assert ids == [hit.passage.id for hit in reranked.search(QUERY, 3)]
