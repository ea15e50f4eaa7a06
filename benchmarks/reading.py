"""How well a reader reads: questions it was never trained on, over what the training recipe sets aside.

    python benchmarks/reading.py DATA [-m MODEL ...] [-n COUNT] [-o OUT.json]

DATA is the folder of public corpora that `python -m rag_chat.training.recipe` reads. Every reader answers the
same seeded sample. F1 and exact match are means in percent over questions with 95% bootstrap intervals; of
several right answers the best counts. An answerable question on which the reader abstains scores 0.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rag_chat import Assistant, Index
from rag_chat.assistant import Request
from rag_chat.evaluation.intervals import mean_interval
from rag_chat.evaluation.metrics import exact_match, repetition, token_f1
from rag_chat.training.recipe.corpora import quoref_rows
from rag_chat.training.recipe.exercises import read_rows, set_aside
from rag_chat.types import Answer, Document, Message, Passage

SEED = 13


@dataclass(frozen=True, slots=True)
class Question:
    """A request, what would be right to answer (nothing: to abstain), and its kind."""

    kind: str
    request: Request
    answers: tuple[str, ...]


def squad(data: Path) -> Iterator[Question]:
    """Questions on whole paragraphs of articles set aside, a third of them without an answer there."""
    for row in read_rows(data / "squad_half" / "train.jsonl.xz"):
        if set_aside(row["title"]):
            answers = tuple(row["answers"]) if row["answerable"] else ()
            yield Question("squad", _given(row["question"], row["context"], row["title"]), answers)


def quoref(data: Path) -> Iterator[Question]:
    """Questions for a person or thing that the passage refers to by other words."""
    for text, question, answer in quoref_rows(data):
        if set_aside(text[:60]):
            yield Question("quoref", _given(question, text), (answer,))


def replies(data: Path) -> Iterator[Question]:
    """What the cook's assistant said, with the recipe as its passage."""
    recipes = {row["id"]: row for row in read_rows(data / "cookdial" / "recipes.jsonl.xz")}
    for row in read_rows(data / "cookdial" / "dialogues.jsonl.xz"):
        recipe, said = recipes[row["file"][:3]], row["messages"]
        if not set_aside(recipe["id"]):
            continue
        text = " ".join(part["text"] for part in recipe["content"])
        turns = [Message("assistant" if turn["bot"] else "user", turn["utterance"]) for turn in said]
        for i in range(1, len(turns)):
            if (turns[i - 1].role, turns[i].role) == ("user", "assistant"):
                asked = _given(
                    turns[i - 1].content, text, recipe["title"], tuple(turns[max(0, i - 3) : i - 1])
                )
                yield Question("recipe replies", asked, (turns[i].content,))


def _given(question: str, text: str, title: str = "", history: tuple[Message, ...] = ()) -> Request:
    passage = Passage("given#0", "given", title.replace("_", " "), text, 0, len(text), context=title)
    return Request(question, history, (passage,))


def measure(bot: Assistant, questions: Sequence[Question]) -> dict[str, object]:
    """Put the questions to a reader and score what it says."""
    said: list[Answer] = []
    for start in range(0, len(questions), 16):
        said += bot.answer([q.request for q in questions[start : start + 16]])
    pairs = [(a, q) for a, q in zip(said, questions, strict=True) if q.answers]
    figures: dict[str, object] = {
        "questions": len(pairs),
        "f1": _percent([_best(token_f1, a, q) for a, q in pairs]),
        "exact": _percent([_best(exact_match, a, q) for a, q in pairs]),
        "repetition": sum(repetition(a.text) for a in said) / len(said),
    }
    without = [a.abstained for a, q in zip(said, questions, strict=True) if not q.answers]
    if without:
        recognised, answered = (
            sum(without) / len(without),
            sum(not a.abstained for a, _ in pairs) / len(pairs),
        )
        figures |= {"unanswerable": len(without), "balanced accuracy": 50 * (recognised + answered)}
    return figures


def _best(score: Callable[[str, str], float], answer: Answer, question: Question) -> float:
    return 0.0 if answer.abstained else max(score(answer.text, right) for right in question.answers)


def _percent(scores: Sequence[float]) -> list[float]:
    return [round(100 * value, 1) for value in mean_interval(scores)]


def main() -> None:
    """Measure each model on each set, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("-m", "--model", action="append", default=[])
    parser.add_argument("-n", "--count", type=int, default=200, help="questions of each set")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    rng = random.Random(SEED)
    sets = {make.__name__: list(make(given.data)) for make in (squad, quoref, replies)}
    sets = {name: rng.sample(all_, min(given.count, len(all_))) for name, all_ in sets.items()}
    texts = {q.request.passages[0].text for q in squad(given.data) if q.request.passages}
    documents = [Document(f"paragraph-{i}", text) for i, text in enumerate(sorted(texts))]
    report: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        index = Index.build(documents, Path(folder) / "index")
        for model in given.model or ["reader"]:
            bot = Assistant(index, model)
            for name, questions in sets.items():
                report[f"{model}: {name}, gold passage"] = measure(bot, questions)
            searched = [
                Question(q.kind, Request(q.request.question), q.answers) for q in sets["squad"] if q.answers
            ]
            report[f"{model}: squad, five retrieved"] = measure(bot, searched)
    for name, figures in report.items():
        print(name, json.dumps(figures))
    if given.output:
        given.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
