"""Give each training turn the evidence it would have in service, imperfections included."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from rag_chat.conversation.query import stand_alone
from rag_chat.evaluation.metrics import normalise
from rag_chat.generation.prompt import UNANSWERABLE
from rag_chat.retrieval.index import Index
from rag_chat.training.examples import Example, turn_examples
from rag_chat.types import Dialogue, Passage

BATCH_SIZE = 256


def gather(
    dialogues: Sequence[Dialogue], index: Index, *, k: int, gold_dropout: float, rng: random.Random
) -> list[Example]:
    """Return the examples of dialogues with passages from the index, k each.

    A conversation is never retrieved for itself. Where the reply names its `sources` and the passage
    that says most of it was not found, that passage is put in a random place; in a `gold_dropout` share
    of such turns all that rests on the sources is taken away instead, and the turn becomes an abstention.
    """
    examples = [example for dialogue in dialogues for example in turn_examples(dialogue)]
    cited = {d.id: frozenset(s for m in d.messages for s in m.sources) for d in dialogues}
    without = [example for example in examples if not example.turn.passages]
    found = (
        example
        for start in range(0, len(without), BATCH_SIZE)
        for example in _searched(without[start : start + BATCH_SIZE], index, k)
    )
    stored: dict[str, list[Passage]] = {}
    for passage in index.passages():
        stored.setdefault(passage.source, []).append(passage)
    return [
        example if example.turn.passages else _with_gold(next(found), index, stored, cited, gold_dropout, rng)
        for example in examples
    ]


def _searched(examples: Sequence[Example], index: Index, k: int) -> list[Example]:
    queries = [stand_alone(e.turn.question, e.turn.history) for e in examples]
    hits = index.search_many(queries, k, exclude_sources=[(e.dialogue,) for e in examples])
    return [
        replace(e, turn=replace(e.turn, passages=tuple(hit.passage for hit in found), query=query))
        for e, query, found in zip(examples, queries, hits, strict=True)
    ]


def _with_gold(
    example: Example,
    index: Index,
    stored: dict[str, list[Passage]],
    cited: dict[str, frozenset[str]],
    gold_dropout: float,
    rng: random.Random,
) -> Example:
    gold = {name for source in example.sources if (name := index.resolve_source(source))}
    if not gold:
        return example
    turn = example.turn
    if rng.random() < gold_dropout:
        rests = frozenset(example.sources)
        kept = [p for p in turn.passages if p.source not in gold and not _rests_on(p, rests, cited)]
        return replace(example, turn=replace(turn, passages=tuple(kept)), target=UNANSWERABLE)
    passages, best = list(turn.passages), _best_of(stored[rng.choice(sorted(gold))], example.target)
    if best not in passages:
        passages[-1:] = []
        passages.insert(rng.randint(0, len(passages)), best)
    return replace(example, turn=replace(turn, passages=tuple(passages)))


def _rests_on(passage: Passage, sources: frozenset[str], cited: dict[str, frozenset[str]]) -> bool:
    """Whether a conversation tells what the sources say; one that is not known here may well."""
    return passage.kind == "dialogue" and bool(sources & cited.get(passage.source, sources))


def _best_of(passages: Sequence[Passage], reply: str) -> Passage:
    """The passage that says most of the reply, the first of several."""
    wanted = set(normalise(reply).split())
    return max(passages, key=lambda p: len(wanted & set(normalise(p.text).split())))
