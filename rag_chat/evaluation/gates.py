"""Gates for continuous integration: a score that is too low, or lower than it was."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rag_chat.errors import UsageError
from rag_chat.evaluation.intervals import Interval, paired_interval

Json = Mapping[str, Any]


def scores_of(report: Json) -> dict[str, float]:
    """Every score of a report by name: `recall@5`, `f1` of the main arm, `extractive.f1` of another."""
    found = {name: float(interval[0]) for name, interval in report["retrieval"].items()}
    for arm, scores in report["arms"].items():
        flat = {name: value for name, value in scores.items() if name not in ("by_topic", "by_depth")}
        flat |= {f"latency_{name}": value for name, value in (flat.pop("latency_ms") or {}).items()}
        for name, value in flat.items():
            number = value[0] if isinstance(value, list | tuple) and len(value) == 3 else value
            if isinstance(number, int | float):
                found[f"{arm}.{name}"] = float(number)
                if arm == report["main"]:
                    found[name] = float(number)
    return found


def shortfalls(report: Json, least: Mapping[str, str]) -> list[str]:
    """Say which scores are below what was asked; raises UsageError for a name or number unknown."""
    scores = scores_of(report)
    return [
        f"{name} is {scores[name]:.4g}, below {wanted}"
        for name, wanted in least.items()
        if scores[_known(name, scores)] < _number(name, wanted)
    ]


def _known(name: str, scores: Mapping[str, float]) -> str:
    if name not in scores:
        near = difflib.get_close_matches(name, scores, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"This report has no score {name!r}.", f"{hint}It has: {', '.join(sorted(scores))}.")
    return name


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise UsageError(f"{name}={text} is not a number.", "Say, for example: --fail-under recall@5=0.8")
    return number


def changes(old: Json, new: Json) -> dict[str, Interval]:
    """How much higher each score of the main arm, and of retrieval, is than in an earlier report.

    Paired by turn, with intervals over conversations. Raises UsageError when the reports are not of the
    same turns.
    """
    before, after = _by_turn(old), _by_turn(new)
    if before.keys() != after.keys():
        different = len(before.keys() ^ after.keys())
        raise UsageError(
            f"The baseline is of other turns: {different} are in one report only.",
            "Evaluate the same dialogues, or write a new baseline with -o.",
        )
    found = {}
    for name in dict.fromkeys(name for scores in after.values() for name in scores):
        turns = [turn for turn in after if name in after[turn] and name in before[turn]]
        now, then = [after[turn][name] for turn in turns], [before[turn][name] for turn in turns]
        if turns:
            found[name] = paired_interval(now, then, [conversation for conversation, _ in turns])
    return found


def _by_turn(report: Json) -> dict[tuple[str, int], dict[str, float]]:
    """By (conversation, depth): the scores that are gated."""
    main = report["main"]
    return {
        (turn["dialogue"], turn["depth"]): {
            **turn["retrieval"],
            **{name: turn["answers"][main][name] for name in ("f1", "exact_match", "rouge_l") if main},
        }
        for turn in report["turns"]
    }


def regressions(changed: Mapping[str, Interval]) -> list[str]:
    """Say which scores fell beyond chance: their whole interval is below 0."""
    return [
        f"{name} fell by {-mean:.4f} [{-high:.4f}, {-low:.4f}]"
        for name, (mean, low, high) in changed.items()
        if high < 0
    ]


def read_report(path: Path) -> Json:
    """Read a report.json; raises UsageError when it is not one."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if not {"turns", "arms", "retrieval", "main"} <= report.keys():
            raise ValueError("it has no turns, arms and retrieval")
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{path} is not a report of this evaluation: {error}.",
            "Write one with: rag-chat eval DIALOGUES -i DIR -o REPORT_DIR",
        ) from error
    return dict(report)
