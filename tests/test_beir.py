"""BEIR sets: read as they are, scored by document, refused when they do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from rag_chat.commands import cli
from rag_chat.errors import CorpusError, RagChatError, UsageError
from rag_chat.evaluation.beir import evaluate_beir, is_beir, read_beir
from rag_chat.retrieval.index import Index

if TYPE_CHECKING:
    from rag_chat.index.embedding import SentenceTransformerEmbedder

TEXTS = {
    "tea": "Green tea is steeped at 75 degrees.",
    "egg": "Boil an egg for six minutes.",
    "4": "Skis have edges.",
}
QUERIES = {
    "q1": "How hot is the water for green tea?",
    "q2": "How long do I boil an egg?",
    "q3": "not judged",
}


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    (folder / "qrels").mkdir(parents=True)
    rows = [json.dumps({"_id": name, "title": "", "text": text}) for name, text in TEXTS.items()]
    (folder / "corpus.jsonl").write_text("\n".join(rows), encoding="utf-8")
    rows = [json.dumps({"_id": name, "text": text}) for name, text in QUERIES.items()]
    (folder / "queries.jsonl").write_text("\n".join(rows), encoding="utf-8")
    qrels = "query-id\tcorpus-id\tscore\nq1\ttea\t2\nq2\tegg\t1\nq2\t4\t0\nq3\t4\t0\n"
    (folder / "qrels" / "test.tsv").write_text(qrels, encoding="utf-8")
    (folder / "qrels" / "dev.tsv").write_text("", encoding="utf-8")
    return folder


def build(beir: Path, embedder: SentenceTransformerEmbedder) -> Index:
    return Index.build([beir / "corpus.jsonl"], beir / "index", embedder=embedder)


def test_only_queries_with_a_relevant_document_count(beir: Path) -> None:
    assert is_beir(beir)
    given = read_beir(beir)
    assert given.judged == {"q1": {"tea": 2}, "q2": {"egg": 1, "4": 0}}
    assert list(given.queries) == ["q1", "q2"]


def test_a_query_may_hold_other_line_ends(beir: Path) -> None:
    rows = (beir / "queries.jsonl").read_text(encoding="utf-8").replace("green tea", "green\u2028tea")
    (beir / "queries.jsonl").write_text(f"{rows}\n", encoding="utf-8")
    assert read_beir(beir).queries["q1"] == "How hot is the water for green\u2028tea?"


def test_a_set_is_scored(beir: Path, tiny_embedder: SentenceTransformerEmbedder) -> None:
    with build(beir, tiny_embedder) as index:
        report = evaluate_beir(read_beir(beir), index)
    assert report["retrieval"]["recall@3"] == (1.0, 1.0, 1.0)
    firsts = [turn["retrieval"]["mrr@10"] for turn in report["turns"]]
    assert report["retrieval"]["mrr@10"][0] == pytest.approx(sum(firsts) / 2)


def test_from_the_command_line(beir: Path, tiny_embedder: SentenceTransformerEmbedder) -> None:
    build(beir, tiny_embedder).close()
    command = [
        "eval",
        str(beir),
        "-i",
        str(beir / "index"),
        "-o",
        str(beir / "report"),
        "--fail-under",
        "recall@3=1",
    ]
    result = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "2 queries" in result.stdout
    assert "nDCG@10 is" in (beir / "report" / "report.html").read_text("utf-8")
    assert len((beir / "report" / "turns.csv").read_text().splitlines()) == 3


def test_relevant_documents_that_are_missing_are_refused(
    beir: Path, tiny_embedder: SentenceTransformerEmbedder
) -> None:
    with build(beir, tiny_embedder) as index:
        (beir / "qrels" / "test.tsv").write_text("q1\tcoffee\t1\nq2\t4\t1\n")
        with pytest.raises(UsageError, match=r"1 of the 2 relevant documents .* 'coffee'") as caught:
            evaluate_beir(read_beir(beir), index)
    assert "rag-chat index add" in caught.value.fix


@pytest.mark.parametrize(
    ("qrels", "kind", "says"),
    [
        ("q1\ttea\t0\n", UsageError, "nothing to evaluate"),
        ("q9\ttea\t1\n", UsageError, "1 queries are judged but not in"),
        ("q1\ttea\t1\nq1\ttea\thigh\n", CorpusError, "line 2"),
        ("q1 tea 1\n", CorpusError, "line 1"),
    ],
)
def test_judgements_that_make_no_sense_are_refused(
    beir: Path, qrels: str, kind: type[RagChatError], says: str
) -> None:
    (beir / "qrels" / "test.tsv").write_text(qrels)
    with pytest.raises(kind, match=says):
        read_beir(beir)


def test_it_must_be_clear_which_judgements(beir: Path) -> None:
    (beir / "qrels" / "test.tsv").rename(beir / "qrels" / "train.tsv")
    with pytest.raises(UsageError, match=r"has 2 files and no test\.tsv"):
        read_beir(beir)


def test_a_query_that_cannot_be_read_is_named(beir: Path) -> None:
    (beir / "queries.jsonl").write_text('{"_id": "q1"}\n')
    with pytest.raises(CorpusError, match="line 1"):
        read_beir(beir)
