"""Whether to answer, to quote instead, or to abstain: a small logistic model over what is known of the turn.

The model is a few numbers, fitted on set-aside conversations (`rag_chat.training.abstention`) and kept in the
card of the checkpoint that it was fitted for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_chat.conversation.query import content_words
from rag_chat.errors import ModelError
from rag_chat.generation.checkpoint import read_abstention
from rag_chat.generation.citations import Support, coverage
from rag_chat.types import Generated, Hit, Turn

FEATURES = (
    "nearest",  # cosine of the nearest passage, [-1, 1]
    "margin",  # the same less the mean of the others
    "coverage",  # share of the query's words that one passage holds
    "agreement",  # the same of the nearest passage: meaning and words agree
    "abstaining",  # log-odds of the model's own wish to abstain
    "likelihood",  # mean log-probability of the answer's tokens
    "total likelihood",  # their sum, in words of the answer
    "support",  # the best citation's, [0, 1]
    "type",  # a number where one is asked for: 1, missing: -1, nothing asked: 0
    "small talk",  # 1: the question has no word that says what it is about
)

Floats = NDArray[np.float64]

_ASKS_NUMBER = re.compile(
    r"\b(?:how (?:many|much|long|far|old|tall|high|wide|big|deep|heavy|hot|fast|often|large)|when|what year|"
    r"which year|what (?:temperature|time|percentage|number|age))\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|hundred|half|quarter|third|once|"
    r"twice|day|night|morning|evening|spring|summer|autumn|winter|daily|never|always|"
    r"january|february|march|april|may|june|july|august|september|october|november|december)\b",
    re.IGNORECASE,
)


def features(turn: Turn, hits: Sequence[Hit], said: Generated, support: Support) -> list[float]:
    """What is known of a turn and its answer, as FEATURES names it; there is at least one hit."""
    dense = [hit.dense or 0.0 for hit in hits]
    held = [coverage(turn.query, hit.passage) for hit in hits]
    nearest, likelihood = max(dense), said.log_likelihood or 0.0
    asks, has = bool(_ASKS_NUMBER.search(turn.question)), bool(_NUMBER.search(said.text))
    return [
        nearest,
        nearest - (sum(dense) - nearest) / max(1, len(dense) - 1),
        max(held),
        held[dense.index(nearest)],
        0.0 if said.abstaining is None else _log_odds(said.abstaining),
        likelihood,
        likelihood * len(said.text.split()),
        max((citation.score for citation in support.citations), default=0.0),
        (1.0 if has else -1.0) if asks else 0.0,
        float(not content_words(turn.question)),
    ]


@dataclass(frozen=True, slots=True)
class Calibration:
    """The fitted model: p = sigmoid(weights . (features - means) / scales + intercept).

    `threshold`: the assistant abstains below it; None when the two classes did not separate, and then it
    does not use the model. `quote`: from there to here, the sentence of the passages that is closest to the
    question is quoted in place of the answer. `auroc` with its 95% interval, and `curve` (coverage, share of
    wrong among the answers given), are of conversations that the model was not fitted on (cross-validation).
    """

    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    threshold: float | None
    quote: float
    auroc: tuple[float, float, float]
    curve: tuple[tuple[float, float], ...]
    turns: int

    def probability(self, known: Sequence[float]) -> float:
        """How likely it is that the passages hold the answer, [0, 1]."""
        standard = (np.asarray(known) - self.means) / self.scales
        return float(sigmoid(standard @ np.asarray(self.weights) + self.intercept))

    def coverage_at(self, precision: float) -> float:
        """The largest share of turns that can be answered with at least this share of right answers."""
        return max((coverage for coverage, risk in self.curve if 1 - risk >= precision), default=0.0)


def fit_logistic(rows: Floats, good: NDArray[np.bool_], *, ridge: float = 1.0) -> tuple[Floats, float]:
    """Return weights (features,) and intercept of ridge logistic regression, by Newton's method.

    rows: (n, features), standardised.
    """
    wide = np.column_stack([rows, np.ones(len(rows))])
    penalty = ridge * np.diag([*np.ones(rows.shape[1]), 0.0])
    solution = np.zeros(wide.shape[1])
    for _ in range(25):
        p = sigmoid(wide @ solution)
        gradient = wide.T @ (good - p) - penalty @ solution
        hessian = (wide * (p * (1 - p))[:, None]).T @ wide + penalty + 1e-9 * np.eye(len(solution))
        step = np.linalg.solve(hessian, gradient)
        solution = solution + step
        if np.abs(step).max() < 1e-8:
            break
    return solution[:-1], float(solution[-1])


def auroc(scores: Floats, good: NDArray[np.bool_]) -> float:
    """The chance that a good one scores above a bad one, ties counting half (Hanley and McNeil 1982)."""
    above = scores[good][:, None] - scores[~good][None, :]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def risk_coverage(
    scores: Floats, right: NDArray[np.bool_], points: int = 50
) -> tuple[tuple[float, float], ...]:
    """Pairs (coverage, share of wrong among the answers given), answering the likeliest first."""
    order = np.argsort(-scores, kind="stable")
    wrong = np.cumsum(~right[order])
    given = np.unique(np.linspace(1, len(order), points).astype(int))
    return tuple((round(float(n / len(order)), 4), round(float(wrong[n - 1] / n), 4)) for n in given)


def best_threshold(scores: Floats, answered: Floats, abstained: Floats) -> float:
    """The threshold with the highest mean score: `answered` for turns at or above it, `abstained` below.

    It lies in the middle between the turns on both of its sides.
    """
    order = np.argsort(scores, kind="stable")
    gain = np.concatenate([[0.0], np.cumsum((abstained - answered)[order])])
    at = int(gain.argmax())
    places = [0.0, *(float(a + b) / 2 for a, b in pairwise(scores[order])), 1.0]
    return places[at]


def _log_odds(log_probability: float) -> float:
    p = min(max(math.exp(log_probability), 1e-9), 1 - 1e-9)
    return math.log(p / (1 - p))


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -60, 60))))


def read_calibration(folder: Path) -> Calibration | None:
    """Read the calibration of a checkpoint; None where it has none, or its classes did not separate.

    Raises ModelError when it is damaged.
    """
    kept = read_abstention(folder)
    if kept is None or kept.get("threshold") is None:
        return None
    try:
        return Calibration(**{f.name: _frozen(kept[f.name]) for f in fields(Calibration)})
    except KeyError as error:
        raise ModelError(
            f"When to abstain is damaged in the card of {folder}: {error} is missing.",
            "Fit it again: rag-chat train DIALOGUES -i INDEX -o MODEL --part abstention",
        ) from error


def _frozen(value: Any) -> Any:
    """JSON's lists as tuples."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
