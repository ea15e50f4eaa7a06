"""A report as JSON and CSV, for programs and for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rag_chat.evaluation.run import EvalReport, TurnReport
from rag_chat.types import Hit

FORMAT = 1
WORST = 20

Json = Mapping[str, Any]


def report_json(report: EvalReport) -> dict[str, Any]:
    """The report as JSON-ready values: all scores of all turns, and traces of the worst.

    Scores lie in [0, 1]; three numbers are a mean and the ends of its 95% interval. Only `latency_ms`
    differs from one run to the next.
    """
    arms = {name: asdict(arm) for name, arm in report.arms.items()}
    return {
        "format": FORMAT,
        "verdict": report.verdict,
        "conversations": report.conversations,
        "grounded": report.grounded,
        "k": report.k,
        "main": report.main,
        "retrieval": dict(report.retrieval),
        "arms": arms,
        "differences": dict(report.differences),
        "turns": [_turn(turn) for turn in report.turns],
        "worst": [_trace(turn, report.main) for turn in worst(report)],
    }


def worst(report: EvalReport) -> list[TurnReport]:
    """The WORST turns of the main arm; of equals those first that another arm did best on."""

    def badness(turn: TurnReport) -> tuple[float, float]:
        return turn.scores[report.main].f1, -max(one.f1 for one in turn.scores.values())

    return sorted(report.turns, key=badness)[:WORST]


def _turn(turn: TurnReport) -> dict[str, Any]:
    case = turn.case
    return {
        "dialogue": case.dialogue,
        "depth": case.depth,
        "topic": case.topic,
        "question": case.request.question,
        "reply": case.reply.content,
        "should_abstain": case.reply.abstained,
        "sources": list(case.reply.sources),
        "retrieval": dict(turn.retrieval),
        "answers": {
            name: {"text": answer.text, "abstained": answer.abstained, **asdict(turn.scores[name])}
            for name, answer in turn.answers.items()
        },
    }


def _trace(turn: TurnReport, main: str) -> dict[str, Any]:
    answer = turn.answers[main]
    return {
        **_turn(turn),
        "history": [{"role": said.role, "content": said.content} for said in turn.case.request.history],
        "query": answer.query,
        "reason": answer.reason,
        "passages": [_passage(hit) for hit in answer.hits],
        "citations": [asdict(citation) for citation in answer.citations],
        "dropped": list(answer.dropped),
    }


def _passage(hit: Hit) -> dict[str, Any]:
    passage = hit.passage
    return {
        "rank": hit.rank,
        "source": passage.source,
        "title": passage.title,
        "score": hit.score,
        "text": passage.text,
    }


def turns_csv(report: Json) -> str:
    """One row for each turn and arm, or for each turn where no arm answered."""
    rows = [row for turn in report["turns"] for row in _rows(turn)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _rows(turn: Json) -> Sequence[dict[str, Any]]:
    about = {name: value for name, value in turn.items() if name not in ("answers", "retrieval", "sources")}
    about["sources"] = " ".join(turn["sources"])
    about |= turn["retrieval"]
    return [about | {"arm": arm, **answer} for arm, answer in turn["answers"].items()] or [about]
