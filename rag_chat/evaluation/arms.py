"""Arms: an assistant, and the evidence it is given, so that what helps can be told from what does not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rag_chat.assistant import ABSTENTION, Assistant
from rag_chat.conversation.verdict import says_nothing
from rag_chat.evaluation.cases import Case
from rag_chat.evaluation.metrics import normalise
from rag_chat.retrieval.index import Index
from rag_chat.types import Answer, Passage, Turn

BATCH_SIZE = 32

Evidence = Literal["retrieved", "gold", "none"]


@dataclass(frozen=True, slots=True)
class Arm:
    """An assistant and its evidence.

    "gold": where the reply names documents, their passages in place of those found, so that what retrieval
    costs can be read off; other turns are as in service. "none": the model alone.
    """

    assistant: Assistant
    evidence: Evidence = "retrieved"


def answers(arm: Arm, found: Sequence[Case]) -> list[Answer]:
    """Answer every case, in order, in batches."""
    batches = [found[start : start + BATCH_SIZE] for start in range(0, len(found), BATCH_SIZE)]
    if arm.evidence == "none":
        return [answer for batch in batches for answer in _without(arm.assistant, batch)]
    gold = _gold(found, arm.assistant) if arm.evidence == "gold" else {}
    requests = [[replace(case.request, passages=gold.get(case.id)) for case in batch] for batch in batches]
    return [answer for batch in requests for answer in arm.assistant.answer(batch)]


def latencies(arm: Arm, found: Sequence[Case]) -> list[float]:
    """Milliseconds for each case answered alone, after one that warms up."""
    answers(arm, found[:1])
    taken = []
    for case in found:
        started = time.perf_counter()
        answers(arm, [case])
        taken.append(1000 * (time.perf_counter() - started))
    return taken


def _without(assistant: Assistant, found: Sequence[Case]) -> list[Answer]:
    """What the model says with no passage before it; an assistant would abstain unasked."""
    turns = [Turn(case.request.question, case.request.history) for case in found]
    model = assistant.generator
    return [_unsupported(said.text, model.name) for said in model.generate(turns)]


def _unsupported(said: str, model: str) -> Answer:
    abstained = says_nothing(said)
    return Answer(
        text=ABSTENTION if abstained else said,
        citations=(),
        query="",
        abstained=abstained,
        reason="Nothing was searched for.",
        hits=(),
        model=model,
        session="",
        timings_ms={},
    )


def _gold(found: Sequence[Case], assistant: Assistant) -> dict[str, tuple[Passage, ...]]:
    """By case: the k passages of the documents the reply names that say most of it."""
    index = assistant.index
    wanted = {
        case.id: tuple(str(index.resolve_source(source)) for source in case.reply.sources)
        for case in found
        if case.reply.sources
    }
    stored = {sources: _passages(index, sources) for sources in set(wanted.values())}
    return {
        case.id: tuple(_nearest(stored[wanted[case.id]], case.reply.content)[: assistant.k])
        for case in found
        if case.id in wanted
    }


def _passages(index: Index, sources: tuple[str, ...]) -> list[Passage]:
    return list(index.store.passages(index.store.passage_ids(sources).tolist()).values())


def _nearest(passages: Sequence[Passage], reply: str) -> list[Passage]:
    """Those that say most of the reply first."""
    words = set(normalise(reply).split())
    return sorted(passages, key=lambda p: -len(words & set(normalise(p.text).split())))
