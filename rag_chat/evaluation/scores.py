"""From answers to scores: turn by turn, then as means over turns, topics and depths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rag_chat.evaluation.cases import Case
from rag_chat.evaluation.intervals import Interval, mean_interval
from rag_chat.evaluation.metrics import (
    abstention,
    bleu,
    distinct,
    exact_match,
    repetition,
    rouge_l,
    support,
    token_f1,
)
from rag_chat.types import Answer

DEEP = 5
"""The depth from which turns are counted together: few conversations go further."""


@dataclass(frozen=True, slots=True)
class TurnScores:
    """How one answer did. All lie in [0, 1]; an abstention scores 1 where the reply abstains, 0 elsewhere.

    `support` is the share of the answer's sentences that its passages support, None for an abstention;
    `confidence` is what the answer is ranked by when only the surest are kept: the calibrated chance, or
    else how well its best citation supports it.
    """

    f1: float
    exact_match: float
    rouge_l: float
    support: float | None
    repetition: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds a turn, answered alone: median, 95th percentile, and how many were measured."""

    p50: float
    p95: float
    turns: int


@dataclass(frozen=True, slots=True)
class ArmReport:
    """How one assistant did over all turns; intervals are 95% bootstrap intervals over conversations.

    `f1_grounded` counts the turns whose reply names its sources. `bleu`, `distinct_1` and `distinct_2` are
    of all answers together, abstentions left out. `abstained_wrongly` is the share abstained from of the
    turns that have an answer. `risk_coverage` pairs shares of turns answered, the surest first, with 1 - F1.
    """

    model: str
    f1: Interval
    f1_grounded: Interval | None
    exact_match: Interval
    rouge_l: Interval
    bleu: float
    support: Interval | None
    abstention_precision: float | None
    abstention_recall: float | None
    abstained_wrongly: float
    distinct_1: float
    distinct_2: float
    repetition: float
    latency_ms: Latency | None
    by_topic: Mapping[str, Interval]
    by_depth: Mapping[str, Interval]
    risk_coverage: tuple[tuple[float, float], ...]


def turn_scores(answer: Answer, case: Case) -> TurnScores:
    """Score one answer."""
    right = float(answer.abstained and case.reply.abstained)
    either = answer.abstained or case.reply.abstained
    gold, passages = case.reply.content, [hit.passage for hit in answer.hits]

    def score(measure: Callable[[str, str], float]) -> float:
        return right if either else measure(answer.text, gold)

    supported = None if answer.abstained else support(answer.text, passages, case.request.question)
    return TurnScores(
        f1=score(token_f1),
        exact_match=score(exact_match),
        rouge_l=score(rouge_l),
        support=supported,
        repetition=repetition(answer.text),
        confidence=_confidence(answer),
    )


def _confidence(answer: Answer) -> float:
    if answer.confidence is not None:
        return answer.confidence
    return max((citation.score for citation in answer.citations), default=0.0)


def arm_report(
    said: Sequence[Answer], found: Sequence[Case], scores: Sequence[TurnScores], latency: Latency | None
) -> ArmReport:
    """Summarise one arm; the three sequences are of the same turns."""
    pairs = list(zip(said, found, strict=True))
    spoken = [(a.text, c.reply.content) for a, c in pairs if not (a.abstained or c.reply.abstained)]
    texts = [answer.text for answer in said if not answer.abstained]
    precision, recall = abstention([a.abstained for a in said], [c.reply.abstained for c in found])
    answerable = [a.abstained for a, c in pairs if not c.reply.abstained]
    means = _Means(found)
    return ArmReport(
        model=said[0].model,
        f1=means.over([s.f1 for s in scores]),
        f1_grounded=means.where([s.f1 for s in scores], [bool(c.reply.sources) for c in found]),
        exact_match=means.over([s.exact_match for s in scores]),
        rouge_l=means.over([s.rouge_l for s in scores]),
        bleu=bleu(*zip(*spoken, strict=True)) if spoken else 0.0,
        support=means.where([s.support or 0.0 for s in scores], [s.support is not None for s in scores]),
        abstention_precision=precision,
        abstention_recall=recall,
        abstained_wrongly=sum(answerable) / max(1, len(answerable)),
        distinct_1=distinct(texts, 1),
        distinct_2=distinct(texts, 2),
        repetition=float(np.mean([s.repetition for s in scores])),
        latency_ms=latency,
        by_topic=means.by([s.f1 for s in scores], [c.topic for c in found]),
        by_depth=means.by([s.f1 for s in scores], [depth_name(c) for c in found]),
        risk_coverage=risk_coverage([s.confidence for s in scores], [s.f1 for s in scores]),
    )


def latency_of(milliseconds: Sequence[float]) -> Latency | None:
    if not milliseconds:
        return None
    p50, p95 = np.quantile(milliseconds, (0.5, 0.95))
    return Latency(round(float(p50), 1), round(float(p95), 1), len(milliseconds))


def risk_coverage(confidence: Sequence[float], f1: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """(coverage, risk), both in (0, 1]: the surest turns kept, and their mean 1 - F1.

    One point for each value of the confidence, so that turns that tie are kept or left together
    (El-Yaniv and Wiener 2010).
    """
    sure, right = np.asarray(confidence), np.asarray(f1)
    points = []
    for least in sorted(set(sure.tolist()), reverse=True):
        kept = sure >= least
        points.append((float(kept.mean()), float(1 - right[kept].mean())))
    return tuple(points)


def depth_name(case: Case) -> str:
    return str(case.depth) if case.depth < DEEP else f"{DEEP}+"


class _Means:
    """Means over turns, with intervals over their conversations."""

    def __init__(self, found: Sequence[Case]) -> None:
        self._groups = [case.dialogue for case in found]

    def over(self, scores: Sequence[float]) -> Interval:
        return mean_interval(scores, self._groups)

    def where(self, scores: Sequence[float], counted: Sequence[bool]) -> Interval | None:
        kept = [i for i, flag in enumerate(counted) if flag]
        return mean_interval([scores[i] for i in kept], [self._groups[i] for i in kept]) if kept else None

    def by(self, scores: Sequence[float], names: Sequence[str]) -> dict[str, Interval]:
        found = {name: self.where(scores, [one == name for one in names]) for name in sorted(set(names))}
        return {name: interval for name, interval in found.items() if interval}
