"""Put held-out conversations to one or more arms, score what they say, and conclude."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag_chat.assistant import Assistant
from rag_chat.conversation.evidence import continued, find_evidence
from rag_chat.conversation.query import plans_for
from rag_chat.errors import UsageError
from rag_chat.evaluation.arms import Arm, answers, latencies
from rag_chat.evaluation.cases import Case, cases, check_gold, check_index
from rag_chat.evaluation.intervals import Interval, mean_interval, paired_interval
from rag_chat.evaluation.ranking import DEPTH, MEASURES, rank_scores, sources_found
from rag_chat.evaluation.scores import ArmReport, TurnScores, arm_report, latency_of, turn_scores
from rag_chat.evaluation.verdict import verdict
from rag_chat.types import Answer, Dialogue, Turn

TIMED_TURNS = 30


@dataclass(frozen=True, slots=True)
class TurnReport:
    """One turn: by arm what was said and how it scored.

    `retrieval` holds the ranking scores of a turn whose reply names its documents.
    """

    case: Case
    retrieval: Mapping[str, float]
    answers: Mapping[str, Answer]
    scores: Mapping[str, TurnScores]


@dataclass(frozen=True, slots=True)
class EvalReport:
    """Every arm on the same turns.

    `retrieval` are means over the grounded turns. `differences` is F1 of the main arm minus that of each
    other one, paired by turn. All intervals are 95% bootstrap intervals over conversations.
    """

    conversations: int
    grounded: int
    k: int
    main: str
    verdict: str
    retrieval: Mapping[str, Interval]
    arms: Mapping[str, ArmReport]
    differences: Mapping[str, Interval]
    turns: tuple[TurnReport, ...]


def evaluate(
    dialogues: Sequence[Dialogue],
    arms: Mapping[str, Arm],
    *,
    timed: int = TIMED_TURNS,
) -> EvalReport:
    """Answer every turn of the dialogues, with the history as it was written, by each arm.

    The first arm is the one that the verdict is about, and whose rankings are scored. `timed` turns, drawn
    with a fixed seed, are answered once more each alone for the latency. Apart from that the report is the
    same each time. Raises UsageError when there is no turn to score, a conversation is in the index, or a
    reply names a document that is not.
    """
    found = [case for dialogue in dialogues for case in cases(dialogue)]
    if not found:
        raise UsageError(
            f"There is nothing to evaluate: {len(dialogues)} dialogues, and no reply to a user among them.",
            "Give dialogues with replies, one a line: "
            '{"id", "messages": [{"role": "user", ...}, {"role": "assistant", ...}]}',
        )
    assistant = next(iter(arms.values())).assistant
    check_index(dialogues, assistant.index)
    check_gold(found, assistant.index)
    ranked = rank_cases(assistant, found)
    sample = random.Random(0).sample(found, min(timed, len(found)))
    said = {name: answers(arm, found) for name, arm in arms.items()}
    scores = {name: [turn_scores(*pair) for pair in zip(said[name], found, strict=True)] for name in arms}
    reports = {
        name: arm_report(said[name], found, scores[name], latency_of(latencies(arm, sample)))
        for name, arm in arms.items()
    }
    main, *others = arms
    f1 = {name: [one.f1 for one in of] for name, of in scores.items()}
    groups = [case.dialogue for case in found]
    differences = {name: paired_interval(f1[main], f1[name], groups) for name in others}
    retrieval = _mean_ranks(ranked, found)
    return EvalReport(
        conversations=len(set(groups)),
        grounded=len(next(iter(ranked.values()))),
        k=assistant.k,
        main=main,
        retrieval=retrieval,
        arms=reports,
        differences=differences,
        verdict=verdict(main, differences, retrieval, assistant.k),
        turns=tuple(
            TurnReport(
                case=case,
                retrieval={name: of[case.id] for name, of in ranked.items() if case.id in of},
                answers={name: texts[i] for name, texts in said.items()},
                scores={name: of[i] for name, of in scores.items()},
            )
            for i, case in enumerate(found)
        ),
    )


def rank_cases(assistant: Assistant, found: Sequence[Case]) -> dict[str, dict[str, float]]:
    """Score the ranking of each grounded turn: {measure: {case id: score}}, recall@k among them.

    The first k of a ranking are the passages that are served, and a deeper search goes on from there.
    """
    grounded = [case for case in found if case.reply.sources]
    index, k = assistant.index, assistant.k
    asked = [Turn(case.request.question, case.request.history) for case in grounded]
    plans = plans_for(asked, assistant.generator)
    served, deep = (find_evidence(index, plans, depth) for depth in (k, max(k, DEPTH)))
    hits = [continued(one.hits, more.hits) for one, more in zip(served, deep, strict=True)]
    judged = {
        case.id: {str(index.resolve_source(source)): 1 for source in case.reply.sources} for case in grounded
    }
    rankings = {case.id: sources_found(of) for case, of in zip(grounded, hits, strict=True)}
    return rank_scores(rankings, judged, list(dict.fromkeys((*MEASURES, f"recall@{k}"))))


def _mean_ranks(ranked: Mapping[str, Mapping[str, float]], found: Sequence[Case]) -> dict[str, Interval]:
    group = {case.id: case.dialogue for case in found}
    return {
        name: mean_interval(list(scores.values()), [group[one] for one in scores])
        for name, scores in ranked.items()
        if scores
    }
