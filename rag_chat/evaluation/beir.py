"""BEIR sets: corpus.jsonl, queries.jsonl and qrels/*.tsv, to compare the search with published tables.

Thakur et al., BEIR, NeurIPS 2021 (Datasets and Benchmarks).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_chat.errors import CorpusError, UsageError
from rag_chat.evaluation.intervals import mean_interval
from rag_chat.evaluation.ranking import MEASURES, Judgements, check_finite, rank_scores
from rag_chat.evaluation.report import FORMAT
from rag_chat.retrieval.index import Index
from rag_chat.types import Hit

CORPUS, QUERIES = "corpus.jsonl", "queries.jsonl"
PASSAGES = 200
"""How many passages are searched for: long documents have several, and 100 documents are wanted."""


@dataclass(frozen=True, slots=True)
class BeirSet:
    """The queries of a set that have judgements, by id, and which documents are relevant to each."""

    folder: Path
    queries: Mapping[str, str]
    judged: Judgements


def is_beir(folder: Path) -> bool:
    return (folder / QUERIES).is_file() and (folder / "qrels").is_dir()


def read_beir(folder: Path) -> BeirSet:
    """Read the test judgements of a set, or the only ones there are.

    Raises CorpusError for a file that cannot be read, UsageError when there is nothing to score.
    """
    texts = _queries(folder / QUERIES)
    judged = _judgements(_qrels(folder))
    missing = [query for query in judged if query not in texts]
    if missing:
        raise UsageError(
            f"{len(missing)} queries are judged but not in {folder / QUERIES}, {missing[0]!r} for one.",
            "Take the judgements and the queries from the same copy of the set.",
        )
    if not judged:
        raise UsageError(
            f"There is nothing to evaluate: {folder} judges no document relevant.", "Check qrels."
        )
    return BeirSet(folder, {query: texts[query] for query in judged}, judged)


def evaluate_beir(given: BeirSet, index: Index) -> dict[str, Any]:
    """Search for every query; returns a report as `report_json` does, with no arm.

    A document ranks where its best passage does. Raises UsageError when the index lacks relevant documents.
    """
    _check_documents(given, index)
    found = index.search_many(list(given.queries.values()), PASSAGES)
    rankings = {query: _documents(hits) for query, hits in zip(given.queries, found, strict=True)}
    ranked = rank_scores(rankings, given.judged, (*MEASURES, "recall@100"))
    retrieval = {name: mean_interval(list(scores.values())) for name, scores in ranked.items()}
    best = retrieval["ndcg@10"]
    return {
        "format": FORMAT,
        "verdict": f"nDCG@10 is {best[0]:.3f} [{best[1]:.3f}, {best[2]:.3f}] on {given.folder.name}.",
        "conversations": len(given.queries),
        "grounded": len(given.queries),
        "k": PASSAGES,
        "main": "",
        "retrieval": retrieval,
        "arms": {},
        "differences": {},
        "turns": [
            {
                "dialogue": query,
                "depth": 1,
                "topic": "",
                "question": given.queries[query],
                "sources": list(given.judged[query]),
                "retrieval": {name: scores[query] for name, scores in ranked.items()},
                "answers": {},
            }
            for query in given.queries
        ],
        "worst": [],
    }


def _documents(hits: Sequence[Hit]) -> list[str]:
    check_finite(hit.score for hit in hits)
    return list(dict.fromkeys(_id(hit.passage.source) for hit in hits))


def _id(source: str) -> str:
    """The id of a document in its corpus.jsonl: the index knows it as corpus.jsonl#id."""
    return source.partition("#")[2] or source


def _check_documents(given: BeirSet, index: Index) -> None:
    known = {_id(source) for source in index.store.sources()}
    wanted = {one for grades in given.judged.values() for one, grade in grades.items() if grade > 0}
    missing = sorted(wanted - known)
    if missing:
        raise UsageError(
            f"{len(missing)} of the {len(wanted)} relevant documents are not in the index, "
            f"{missing[0]!r} for one.",
            f"Add them with: rag-chat index add {index.path} {given.folder / CORPUS}",
        )


def _queries(path: Path) -> dict[str, str]:
    texts = {}
    for number, line in enumerate(_lines(path), 1):
        try:
            record = json.loads(line)
            texts[str(record["_id"])] = str(record["text"])
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(
                f"{path}, line {number}: {error!r}.", 'A line is {"_id": ..., "text": ...}.'
            ) from error
    return texts


def _qrels(folder: Path) -> Path:
    found = sorted((folder / "qrels").glob("*.tsv"))
    test = [path for path in found if path.stem == "test"]
    if len(test or found) != 1:
        raise UsageError(
            f"{folder / 'qrels'} has {len(found)} files and no test.tsv, so it is not clear which to take.",
            "Keep one .tsv there, or name the right one test.tsv.",
        )
    return (test or found)[0]


def _judgements(path: Path) -> dict[str, dict[str, int]]:
    """By query, the documents judged, for queries that have a relevant one."""
    judged: dict[str, dict[str, int]] = {}
    for number, row in enumerate(csv.reader(_lines(path), delimiter="\t"), 1):
        try:
            query, document, grade = row
            if number > 1 or grade.lstrip("-").isdigit():  # the first line names the columns, in most sets
                judged.setdefault(query, {})[document] = int(grade)
        except ValueError as error:
            raise CorpusError(
                f"{path}, line {number}: {error}.",
                "A line is query id, document id, grade, with tabs between.",
            ) from error
    return {query: grades for query, grades in judged.items() if any(grade > 0 for grade in grades.values())}


def _lines(path: Path) -> list[str]:
    """The lines of a file; only a line feed ends one, as JSON may hold U+2028 and the like."""
    try:
        with path.open(encoding="utf-8") as file:
            return list(file)
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read: {error}.", "Check the file.") from error
