"""Put held-out conversations to one or more assistants and score what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag_chat.assistant import Assistant, Request
from rag_chat.errors import UsageError
from rag_chat.evaluation.metrics import exact_match, mean_interval, token_f1
from rag_chat.retrieval.index import Index
from rag_chat.types import Answer, Dialogue, Message

BATCH_SIZE = 32

Interval = tuple[float, float, float]
"""Mean, and the ends of its 95% bootstrap interval."""


@dataclass(frozen=True, slots=True)
class Case:
    """One user turn with the history as it was, the reply wanted, and the documents it rests on."""

    dialogue: str
    request: Request
    reply: Message


@dataclass(frozen=True, slots=True)
class ArmReport:
    """How one assistant did. All scores lie in [0, 1].

    `f1_grounded` counts the turns whose reply names its sources; `abstained_rightly` is the share of
    turns to abstain from that were, `abstained_wrongly` the share of the others.
    """

    f1: Interval
    f1_grounded: Interval
    exact_match: Interval
    abstained_rightly: float
    abstained_wrongly: float
    cited: float
    against_first: Interval


@dataclass(frozen=True, slots=True)
class EvalReport:
    """Every arm on the same turns, and the share of grounded turns whose document was found in k."""

    turns: int
    dialogues: int
    recall: float
    k: int
    arms: Mapping[str, ArmReport]


def evaluate(dialogues: Sequence[Dialogue], arms: Mapping[str, Assistant]) -> EvalReport:
    """Answer every turn of the dialogues, with the history as written, by each assistant.

    `against_first` is the paired difference in F1 to the first arm. Raises UsageError when there is no
    turn to score or a conversation is in the index.
    """
    found = [case for dialogue in dialogues for case in cases(dialogue)]
    if not found or not arms:
        raise UsageError("There is nothing to evaluate.", "Give dialogues with replies, and a model.")
    first = next(iter(arms.values()))
    _refuse_leaks(dialogues, first.index)
    answers = {name: _answers(assistant, found) for name, assistant in arms.items()}
    f1 = {name: [_f1(a, c) for a, c in zip(said, found, strict=True)] for name, said in answers.items()}
    baseline = f1[next(iter(arms))]
    return EvalReport(
        turns=len(found),
        dialogues=len(dialogues),
        recall=_recall(next(iter(answers.values())), found, first.index),
        k=first.k,
        arms={name: _arm(answers[name], found, f1[name], baseline) for name in arms},
    )


def cases(dialogue: Dialogue) -> list[Case]:
    """The turns of a dialogue that have a reply to compare with."""
    turns = dialogue.messages
    return [
        Case(dialogue.id, Request(turns[i - 1].content, turns[: i - 1]), turns[i])
        for i in range(1, len(turns))
        if turns[i].role == "assistant" and turns[i - 1].role == "user"
    ]


def _answers(assistant: Assistant, found: Sequence[Case]) -> list[Answer]:
    return [
        answer
        for start in range(0, len(found), BATCH_SIZE)
        for answer in assistant.answer([case.request for case in found[start : start + BATCH_SIZE]])
    ]


def _f1(answer: Answer, case: Case) -> float:
    """Token F1; of two abstentions 1 and of one 0, whatever their words."""
    if answer.abstained or case.reply.abstained:
        return float(answer.abstained == case.reply.abstained)
    return token_f1(answer.text, case.reply.content)


def _arm(
    said: Sequence[Answer], found: Sequence[Case], f1: Sequence[float], baseline: Sequence[float]
) -> ArmReport:
    pairs = list(zip(said, found, strict=True))
    grounded = [score for score, case in zip(f1, found, strict=True) if case.reply.sources]
    to_abstain = [answer.abstained for answer, case in pairs if case.reply.abstained]
    to_answer = [answer.abstained for answer, case in pairs if not case.reply.abstained]
    spoken = [bool(answer.citations) for answer, _ in pairs if not answer.abstained]
    return ArmReport(
        f1=mean_interval(f1),
        f1_grounded=mean_interval(grounded or [0.0]),
        exact_match=mean_interval([exact_match(a.text, c.reply.content) for a, c in pairs]),
        abstained_rightly=_share(to_abstain),
        abstained_wrongly=_share(to_answer),
        cited=_share(spoken),
        against_first=mean_interval([a - b for a, b in zip(f1, baseline, strict=True)]),
    )


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0


def _recall(answers: Sequence[Answer], found: Sequence[Case], index: Index) -> float:
    hits = []
    for answer, case in zip(answers, found, strict=True):
        gold = {index.resolve_source(source) for source in case.reply.sources}
        if case.reply.sources:
            hits.append(any(hit.passage.source in gold for hit in answer.hits))
    return _share(hits)


def _refuse_leaks(dialogues: Sequence[Dialogue], index: Index) -> None:
    leaked = [dialogue.id for dialogue in dialogues if index.has_source(dialogue.id)]
    if leaked:
        raise UsageError(
            f"{len(leaked)} of these conversations are in the index, {leaked[0]!r} for one: "
            "the answers would be read off.",
            f"Take them out with: rag-chat index rm {index.path} {leaked[0]} ...",
        )
