"""Fit when to abstain, on conversations that neither the index nor the model has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag_chat.conversation.abstention import (
    Calibration,
    Floats,
    auroc,
    best_threshold,
    features,
    fit_logistic,
    risk_coverage,
    sigmoid,
)
from rag_chat.conversation.evidence import documents_first, find_evidence, turn_with
from rag_chat.conversation.query import plans_for
from rag_chat.conversation.verdict import support_of
from rag_chat.errors import TrainingError
from rag_chat.evaluation.cases import Case, cases
from rag_chat.evaluation.metrics import token_f1
from rag_chat.generation.checkpoint import NEVER_ABSTAIN, keep_calibration, read_card
from rag_chat.generation.citations import find_support
from rag_chat.generation.extractive import ExtractiveReader
from rag_chat.generation.seq2seq import Seq2SeqGenerator
from rag_chat.retrieval.index import Index
from rag_chat.types import Dialogue, Embedder, Generated, Generator, Hit, Turn

FOLDS = 5
SEPARATES = 0.65
"""The lower end of the AUROC's 95% interval must reach this, or no threshold is set."""

DEEP = 20  # passages searched to find k that do not hold the fact


@dataclass(frozen=True, slots=True)
class Trial:
    """A turn with its answer: what is known of it, whether the passages hold the fact, and what it scores.

    `answered` is the score of the answer, `quoted` that of the extractive reader's, and `withheld` that of an
    abstention, as `rag-chat eval` counts them; `natural` tells turns as they are from those whose evidence
    was taken away.
    """

    dialogue: str
    known: tuple[float, ...]
    answerable: bool
    natural: bool
    answered: float
    quoted: float
    withheld: float


def calibrate(dialogues: Sequence[Dialogue], index: Index, model: Path, *, k: int = 5) -> Calibration:
    """Fit when the reader in the folder `model` shall abstain, and keep that in its card.

    dialogues: set aside, neither in the index nor trained on. Raises TrainingError when they hold no turn to
    answer or none to abstain from.
    """
    if leaked := [dialogue.id for dialogue in dialogues if index.has_source(dialogue.id)]:
        raise TrainingError(
            f"{len(leaked)} of these conversations are in the index, {leaked[0]!r} for one.",
            f"Take them out with: rag-chat index rm {index.path} {leaked[0]} ...",
        )
    settings = read_card(model)
    if settings is None:
        raise TrainingError(f"{model} has no card.", "Train it first: rag-chat train DIALOGUES -o MODEL")
    forced = replace(settings, abstain_bias=NEVER_ABSTAIN)
    trials = try_out(dialogues, index, Seq2SeqGenerator(model, settings=forced), k=k)
    calibration = fit(trials)
    keep_calibration(model, asdict(calibration))
    return calibration


def try_out(dialogues: Sequence[Dialogue], index: Index, generator: Generator, *, k: int) -> list[Trial]:
    """Answer every turn as it is, and every grounded turn again without the passages that hold its fact."""
    found = [case for dialogue in dialogues for case in cases(dialogue)]
    asked = [Turn(case.request.question, case.request.history) for case in found]
    plans = plans_for(asked, generator)
    served, deep = find_evidence(index, plans, k), find_evidence(index, plans, DEEP)
    tried: list[tuple[Case, Sequence[Hit], bool]]
    tried = [(case, evidence.hits, True) for case, evidence in zip(found, served, strict=True)]
    tried += [
        (case, documents_first(_without_fact(case, evidence.hits), k), False)
        for case, evidence in zip(found, deep, strict=True)
        if case.reply.sources
    ]
    turns = [_turn(case, hits) for case, hits, _ in tried]
    said, quotes = generator.generate(turns), ExtractiveReader(index.embedder).generate(turns)
    return [
        _trial(*one, answer, quote, index.embedder)
        for one, answer, quote in zip(tried, said, quotes, strict=True)
    ]


def _turn(case: Case, hits: Sequence[Hit]) -> Turn:
    return turn_with(case.request.question, case.request.history, hits)


def _without_fact(case: Case, hits: Sequence[Hit]) -> list[Hit]:
    """The hits that do not support the reply: same topic, fact absent."""
    wanted = case.reply.content, case.request.question
    return [hit for hit in hits if not find_support(wanted[0], [hit.passage], question=wanted[1]).citations]


def _trial(
    case: Case, hits: Sequence[Hit], natural: bool, said: Generated, quote: Generated, embedder: Embedder
) -> Trial:
    turn = _turn(case, hits)

    def score(text: str) -> float:
        return 0.0 if case.reply.abstained else token_f1(text, case.reply.content)

    support = support_of(said, turn, embedder)
    return Trial(
        dialogue=case.dialogue,
        known=tuple(features(turn, hits, said, support)),
        answerable=natural and _held(case, hits),
        natural=natural,
        answered=score(said.text),
        quoted=score(quote.text),
        withheld=float(case.reply.abstained),
    )


def _held(case: Case, hits: Sequence[Hit]) -> bool:
    """Whether the passages hold the answer: one is of the document named, or supports the reply."""
    if case.reply.abstained or not case.reply.sources:
        return not case.reply.abstained
    named = any(
        f"/{hit.passage.source}".endswith(f"/{source}") for hit in hits for source in case.reply.sources
    )
    return named or len(_without_fact(case, hits)) < len(hits)


def fit(trials: Sequence[Trial]) -> Calibration:
    """Fit the model on all trials; what is reported comes of folds by conversation.

    The thresholds are those with the best mean score on the turns as they are, an abstention scoring 1
    where the reply abstains and 0 elsewhere: first that between quoting and answering, then, given that, the
    one between abstaining and either. Raises TrainingError for one class only.
    """
    known = np.array([trial.known for trial in trials], dtype=np.float64)
    good = np.array([trial.answerable for trial in trials])
    if not trials or good.all() or not good.any():
        raise TrainingError(
            "There are no turns to answer and to abstain from among these conversations.",
            'Give conversations with both: a reply abstains with "abstained": true.',
        )
    scores = held_out(known, good, [trial.dialogue for trial in trials])
    separation = _auroc_interval(scores, good)
    natural = np.array([trial.natural for trial in trials])
    answered, quoted, withheld = np.array([[t.answered, t.quoted, t.withheld] for t in trials])[natural].T
    quote = best_threshold(scores[natural], answered, quoted)
    said = np.where(scores[natural] < quote, quoted, answered)
    threshold = best_threshold(scores[natural], said, withheld)
    means, scales, weights, intercept = _standard_fit(known, good)
    return Calibration(
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        weights=tuple(weights.tolist()),
        intercept=intercept,
        threshold=threshold if separation[1] >= SEPARATES else None,
        quote=quote,
        auroc=separation,
        curve=risk_coverage(scores, good),
        turns=len(trials),
    )


def held_out(known: Floats, good: NDArray[np.bool_], groups: Sequence[str], seed: int = 0) -> Floats:
    """The probability of each trial by a model fitted without its conversation: (n,) in [0, 1]."""
    names = sorted(set(groups))
    fold_of = dict(zip(names, np.random.default_rng(seed).permutation(len(names)) % FOLDS, strict=True))
    fold = np.array([fold_of[name] for name in groups])
    scores = np.full(len(groups), 0.5)
    for one in range(FOLDS):
        inside, outside = fold == one, fold != one
        if inside.any() and len(set(good[outside].tolist())) == 2:
            means, scales, weights, intercept = _standard_fit(known[outside], good[outside])
            scores[inside] = sigmoid((known[inside] - means) / scales @ weights + intercept)
    return scores


def _standard_fit(known: Floats, good: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats, float]:
    means, scales = known.mean(axis=0), known.std(axis=0)
    scales[scales == 0] = 1.0
    weights, intercept = fit_logistic((known - means) / scales, good)
    return means, scales, weights, intercept


def _auroc_interval(scores: Floats, good: NDArray[np.bool_], seed: int = 0) -> tuple[float, float, float]:
    """AUROC with its 95% bootstrap interval over turns."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(1000):
        rows = rng.integers(len(scores), size=len(scores))
        if len(set(good[rows].tolist())) == 2:
            found.append(auroc(scores[rows], good[rows]))
    low, high = np.quantile(found, (0.025, 0.975))
    return auroc(scores, good), float(low), float(high)
