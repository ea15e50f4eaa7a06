"""Give each training turn the evidence it would have in service, imperfections included."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tqdm import tqdm

from rag_chat.conversation.evidence import find_evidence
from rag_chat.conversation.query import plan, stand_alone
from rag_chat.errors import TrainingError
from rag_chat.evaluation.metrics import normalise
from rag_chat.generation.prompt import UNANSWERABLE
from rag_chat.retrieval.index import Index
from rag_chat.training.examples import Example, turn_examples
from rag_chat.types import Dialogue, Passage

BATCH_SIZE = 256


def gather(
    dialogues: Sequence[Dialogue], index: Index, *, k: int, gold_dropout: float, rng: random.Random
) -> list[Example]:
    """Return the examples to train on, with up to k passages from the index each.

    A conversation is never retrieved for itself. Where the reply names its `sources` and the passage
    that says most of it was not found, that passage is put in a random place; in a `gold_dropout` share
    of such turns all that rests on the sources is taken away instead, other passages of the index take
    its place, and the turn becomes an abstention. So does a turn none of whose sources is in the index.
    Raises TrainingError when that is so for most turns that name any.
    """
    examples = as_served(dialogues, index, k=k)
    stored: dict[str, list[Passage]] = {}
    for passage in index.passages():
        stored.setdefault(passage.source, []).append(passage)
    cited = {d.id: frozenset(s for m in d.messages for s in m.sources) for d in dialogues}
    placing = _Placing(stored, cited, sorted(stored), k, gold_dropout, rng)
    return [
        placing.place(example, gold_sources(example, index)) if example.evidence == "found" else example
        for example in examples
    ]


def as_served(dialogues: Sequence[Dialogue], index: Index, *, k: int) -> list[Example]:
    """Return the examples to score on: k passages each, exactly those that service would find.

    A turn that names sources of which the index has none is one to abstain from.
    """
    examples = [example for dialogue in dialogues for example in turn_examples(dialogue)]
    without = [example for example in examples if example.evidence != "given"]
    starts = range(0, len(without), BATCH_SIZE)
    shown = tqdm(starts, "searching", unit="batch", disable=None, leave=False)  # None: on a terminal only
    found = (
        example for start in shown for example in _searched(without[start : start + BATCH_SIZE], index, k)
    )
    searched = [example if example.evidence == "given" else next(found) for example in examples]
    labelled = [_labelled(example, index) for example in searched]
    _refuse_strange_sources(labelled)
    return labelled


def _searched(examples: Sequence[Example], index: Index, k: int) -> list[Example]:
    plans = [plan(e.turn.question, e.turn.history) for e in examples]
    found = find_evidence(index, plans, k, exclude_sources=[(e.dialogue,) for e in examples])
    return [
        replace(e, turn=replace(e.turn, passages=tuple(hit.passage for hit in evidence.hits), query=query))
        for e, evidence in zip(examples, found, strict=True)
        for query in [stand_alone(e.turn.question, e.turn.history)]
    ]


def _labelled(example: Example, index: Index) -> Example:
    if example.evidence == "given" or not example.sources:
        return example
    if gold_sources(example, index):
        return replace(example, evidence="found")
    return replace(example, evidence="missing", target=UNANSWERABLE)


def gold_sources(example: Example, index: Index) -> list[str]:
    """The sources of the reply that the index has, as it names them."""
    return sorted({name for source in example.sources if (name := index.resolve_source(source))})


def _refuse_strange_sources(examples: Sequence[Example]) -> None:
    missing = [example for example in examples if example.evidence == "missing"]
    named = sum(example.evidence in ("found", "missing") for example in examples)
    if len(missing) > named / 2:
        raise TrainingError(
            f"{len(missing)} of {named} replies name sources that the index does not have, "
            f"{missing[0].sources[0]!r} for one.",
            "Add those documents to the index, or name them as `rag-chat search` does.",
        )


@dataclass(frozen=True, slots=True)
class _Placing:
    """Puts the gold passage among those found, or takes it away; `cited` is what conversations rest on."""

    stored: dict[str, list[Passage]]
    cited: dict[str, frozenset[str]]
    sources: list[str]
    k: int
    gold_dropout: float
    rng: random.Random

    def place(self, example: Example, gold: Sequence[str]) -> Example:
        if self.rng.random() < self.gold_dropout:
            return self._dropped(example, gold)
        passages = list(example.turn.passages)
        best = best_of(self.stored[self.rng.choice(gold)], example.target)
        if best in passages:
            return example
        passages[self.k - 1 :] = []
        passages.insert(self.rng.randint(0, len(passages)), best)
        return replace(example, turn=replace(example.turn, passages=tuple(passages)), evidence="placed")

    def _dropped(self, example: Example, gold: Sequence[str]) -> Example:
        """Without the evidence; distractors fill its place, or a short list would tell the answer."""
        rests = frozenset(example.sources)
        kept = [p for p in example.turn.passages if not self._tells(p, gold, rests)]
        for source in self.rng.sample(self.sources, len(self.sources)):
            if len(kept) == len(example.turn.passages):
                break
            other = self.rng.choice(self.stored[source])
            if source != example.dialogue and other not in kept and not self._tells(other, gold, rests):
                kept.append(other)
        turn = replace(example.turn, passages=tuple(kept))
        return replace(example, turn=turn, target=UNANSWERABLE, evidence="dropped")

    def _tells(self, passage: Passage, gold: Sequence[str], rests: frozenset[str]) -> bool:
        """Whether a passage says what the sources say; a conversation that is not known here may well."""
        told = passage.kind == "dialogue" and bool(rests & self.cited.get(passage.source, rests))
        return told or passage.source in gold


def best_of(passages: Sequence[Passage], reply: str) -> Passage:
    """The passage that says most of the reply, the first of several."""
    wanted = set(normalise(reply).split())
    return max(passages, key=lambda p: len(wanted & set(normalise(p.text).split())))
