"""How well the search finds a paragraph: BM25, dense and both fused; then how to cut documents.

    python benchmarks/retrieval_quality.py --data DATA --work DIR -o retrieval_quality.json

DATA holds squad_half/train.jsonl.xz (SQuAD development articles; see docs/retrieval.md). Fusion settings are
chosen on half of the articles and reported on the other half, with 95% bootstrap intervals over articles.
Indexes are kept in DIR, so that a second run embeds only the questions.
"""

from __future__ import annotations

import argparse
import json
import lzma
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_chat.config import IndexSettings
from rag_chat.evaluation.intervals import mean_interval, paired_interval
from rag_chat.evaluation.ranking import rank_scores
from rag_chat.retrieval.index import Index
from rag_chat.types import Document, Hit

MEASURES = ("recall@1", "recall@5", "recall@20", "ndcg@10")
DEPTH = 100
BUDGET = 512
"""Tokens of passages a reader is given: chunk sizes are compared by what they put into it."""
CHUNKS = ((64, 0), (128, 0), (128, 16), (128, 32), (254, 32))
QUESTIONS, ABLATION_ARTICLES, ABLATION_QUESTIONS = 1600, 4, 300
"""A seeded sample: two CPU cores do all of it in some ten minutes."""

Ranking = Sequence[tuple[str, float]]
"""(document, score), best first."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its article, and the paragraph that answers it."""

    text: str
    article: str
    paragraph: str
    answers: tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    questions, paragraphs = read_squad(given.data / "squad_half" / "train.jsonl.xz")
    found = {
        "fusion": compare_fusions(questions, paragraphs, given.work),
        "chunking": compare_chunks(questions, paragraphs, given.work),
    }
    given.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def read_squad(path: Path) -> tuple[list[Question], dict[str, tuple[str, str]]]:
    """Return the answerable questions, and by id the article and text of every paragraph."""
    ids: dict[str, str] = {}
    paragraphs: dict[str, tuple[str, str]] = {}
    questions: dict[str, Question] = {}
    with lzma.open(path, "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            text = row["context"]
            if text not in ids:
                ids[text] = f"p{len(ids)}"
                paragraphs[ids[text]] = (row["title"], text)
            if row["answerable"]:
                answers = tuple(dict.fromkeys(row["answers"]))
                questions.setdefault(
                    row["question"], Question(row["question"], row["title"], ids[text], answers)
                )
    return list(questions.values()), paragraphs


# --- Fusion ----------------------------------------------------------------------------------------


def compare_fusions(
    questions: Sequence[Question], paragraphs: Mapping[str, tuple[str, str]], work: Path
) -> dict[str, Any]:
    """Choose how to fuse on the even articles, report on the odd ones."""
    documents = [Document(name, text) for name, (_, text) in paragraphs.items()]
    questions = random.Random(0).sample(questions, QUESTIONS)
    with _index(documents, work / "paragraphs", IndexSettings(chunk_tokens=254, overlap=0)) as index:
        texts = [question.text for question in questions]
        dense = [_best_by_document(hits) for hits in index.search_many(texts, DEPTH, mode="dense")]
        words = [_best_by_document(hits) for hits in index.search_many(texts, DEPTH, mode="lexical")]
    even = set(sorted({question.article for question in questions})[::2])
    tune = [i for i, question in enumerate(questions) if question.article in even]
    test = [i for i, question in enumerate(questions) if question.article not in even]
    chosen = {}
    for kind, fusions in _fusions().items():
        scored = {
            name: sum(questions[i].paragraph in fuse(dense[i], words[i])[:5] for i in tune) / len(tune)
            for name, fuse in fusions.items()
        }
        best = max(scored, key=lambda name: scored[name])
        chosen[f"{kind}, tuned: {best}"] = fusions[best]
        print(f"{kind}: {scored[best]:.4f} on the tuning half by {best}")
    ways: dict[str, Callable[[Ranking, Ranking], list[str]]] = {
        "BM25": lambda _, w: [one for one, _ in w],
        "dense": lambda d, _: [one for one, _ in d],
        "reciprocal ranks: k 60, depth 100": lambda d, w: _rrf(d, w, 60, 1.0, 100),
        **chosen,
    }
    return _report(
        questions, test, {name: [way(dense[i], words[i]) for i in test] for name, way in ways.items()}
    )


def _fusions() -> dict[str, dict[str, Callable[[Ranking, Ranking], list[str]]]]:
    ranks = {
        f"k {k}, depth {depth}, dense weight {weight}": (
            lambda d, w, k=k, weight=weight, depth=depth: _rrf(d, w, k, weight, depth)
        )
        for k in (1, 5, 10, 20, 60)
        for depth in (20, 100)
        for weight in (0.5, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0)
    }
    sums = {
        f"{scale}, dense share {share}": (lambda d, w, share=share, scale=scale: _sum(d, w, share, scale))
        for scale in ("least to most", "by most")
        for share in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    }
    return {"RRF": ranks, "sum of scaled scores": sums}


def _rrf(dense: Ranking, words: Ranking, k: int, weight: float, depth: int) -> list[str]:
    """Reciprocal ranks."""
    scores: dict[str, float] = {}
    for ranking, share in ((dense[:depth], weight), (words[:depth], 1.0)):
        for rank, (one, _) in enumerate(ranking, 1):
            scores[one] = scores.get(one, 0.0) + share / (k + rank)
    return sorted(scores, key=lambda one: -scores[one])


def _sum(dense: Ranking, words: Ranking, share: float, scale: str) -> list[str]:
    """A convex sum of scores brought to [0, 1] (Bruch, Gai and Ingber 2023)."""
    scores: dict[str, float] = {}
    for ranking, weight in ((dense, share), (words, 1 - share)):
        if not ranking:
            continue
        most, least = ranking[0][1], ranking[-1][1] if scale == "least to most" else 0.0
        for one, score in ranking:
            scores[one] = scores.get(one, 0.0) + weight * (score - least) / ((most - least) or 1.0)
    return sorted(scores, key=lambda one: -scores[one])


def _report(
    questions: Sequence[Question], test: Sequence[int], rankings: Mapping[str, Sequence[Sequence[str]]]
) -> dict[str, Any]:
    groups = [questions[i].article for i in test]
    scores = {
        name: _scores(questions, test, dict(zip(test, of, strict=True)).__getitem__)
        for name, of in rankings.items()
    }
    rows = {
        name: {measure: mean_interval(of, groups) for measure, of in each.items()}
        for name, each in scores.items()
    }
    single = max(("BM25", "dense"), key=lambda name: rows[name]["recall@5"][0])
    gains = {
        name: paired_interval(each["recall@5"], scores[single]["recall@5"], groups)
        for name, each in scores.items()
        if name not in ("BM25", "dense")
    }
    for name, row in rows.items():
        print(f"{name:<60} " + "  ".join(f"{measure} {_shown(row[measure])}" for measure in MEASURES))
    for name, gain in gains.items():
        print(f"recall@5 against {single}: {_shown(gain)}  {name}")
    return {
        "questions": len(test),
        "articles": len(set(groups)),
        "rows": rows,
        "against": single,
        "gains": gains,
    }


def _scores(
    questions: Sequence[Question], chosen: Sequence[int], ranking: Callable[[int], Sequence[str]]
) -> dict[str, list[float]]:
    judged = {str(i): {questions[i].paragraph: 1} for i in chosen}
    scores = rank_scores({str(i): ranking(i) for i in chosen}, judged, MEASURES)
    return {measure: list(by_query.values()) for measure, by_query in scores.items()}


def _best_by_document(hits: Sequence[Hit]) -> Ranking:
    best: dict[str, float] = {}
    for hit in hits:
        best.setdefault(hit.passage.source, hit.score)
    return list(best.items())


# --- Chunking --------------------------------------------------------------------------------------


def compare_chunks(
    questions: Sequence[Question], paragraphs: Mapping[str, tuple[str, str]], work: Path
) -> list[dict[str, Any]]:
    """Whole articles cut in several ways: is the answer in the passages that fill the reader's budget?"""
    articles = sorted({article for article, _ in paragraphs.values()})[:ABLATION_ARTICLES]
    kept = [question for question in questions if question.article in articles]
    sample = random.Random(0).sample(kept, min(ABLATION_QUESTIONS, len(kept)))
    places = _places(paragraphs)
    rows = []
    for tokens, overlap in CHUNKS:
        for heading in (True, False) if (tokens, overlap) == (128, 16) else (True,):
            texts = {
                article: "\n\n".join(t for a, t in paragraphs.values() if a == article)
                for article in articles
            }
            documents = [
                Document(article, text, article.replace("_", " ") if heading else "")
                for article, text in texts.items()
            ]
            folder = work / f"chunks-{tokens}-{overlap}-{'heading' if heading else 'bare'}"
            with _index(documents, folder, IndexSettings(chunk_tokens=tokens, overlap=overlap)) as index:
                found = index.search_many([question.text for question in sample], 20)
                passages = index.info()["passages"]
            within = BUDGET // tokens
            row = {
                "chunk_tokens": tokens,
                "overlap": overlap,
                "heading": heading,
                "passages": passages,
                **{
                    f"answer in {most}": mean_interval(
                        [_holds(hits[:most], q, places) for hits, q in zip(found, sample, strict=True)],
                        [q.article for q in sample],
                    )
                    for most in dict.fromkeys((5, within))
                },
            }
            row["in_budget"] = row[f"answer in {within}"]
            rows.append(row)
            print(row)
    return rows


def _places(paragraphs: Mapping[str, tuple[str, str]]) -> dict[str, int]:
    """Where each paragraph begins in its article."""
    ends: dict[str, int] = {}
    places = {}
    for name, (article, text) in paragraphs.items():
        places[name] = ends.get(article, 0)
        ends[article] = places[name] + len(text) + 2
    return places | {f"{name} end": places[name] + len(text) for name, (_, text) in paragraphs.items()}


def _holds(hits: Sequence[Hit], question: Question, places: Mapping[str, int]) -> float:
    """Whether a passage holds an answer, at a place within the paragraph that was asked about."""
    start, end = places[question.paragraph], places[f"{question.paragraph} end"]
    return float(
        any(
            hit.passage.source == question.article
            and hit.passage.start < end
            and hit.passage.end > start
            and any(answer in hit.passage.text for answer in question.answers)
            for hit in hits
        )
    )


def _index(documents: Sequence[Document], folder: Path, settings: IndexSettings) -> Index:
    return Index.build(documents, folder, settings=settings)


def _shown(interval: Sequence[float]) -> str:
    mean, low, high = (100 * value for value in interval)
    return f"{mean:5.1f} [{low:.1f}, {high:.1f}]"


if __name__ == "__main__":
    main()
