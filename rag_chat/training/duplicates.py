"""Near-duplicates across splits: conversations that training would see and the verdict would ask again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rag_chat.evaluation.metrics import normalise
from rag_chat.types import Dialogue

SHINGLE = 5  # words; Lee et al. 2022 and Broder 1997 compare n-grams of this size
ENOUGH = 0.5
"""From this share of shingles on, two conversations say the same: half of all runs of five words."""


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """A held-out conversation and the one in training that shares most with it.

    `share` in [0, 1] of the held-out conversation's runs of five words stand in the other one.
    """

    held_out: str
    trained: str
    share: float


def near_duplicates(trained: Sequence[Dialogue], held_out: Sequence[Dialogue]) -> list[NearDuplicate]:
    """Return the held-out conversations that training nearly holds, exactly, the closest first.

    Words are compared without case, punctuation and articles. Only held-out shingles are kept in
    memory, so that the training side may be large.
    """
    wanted = {number: set(_shingles(dialogue)) for number, dialogue in enumerate(held_out)}
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, shingles in wanted.items():
        for shingle in shingles:
            holders[shingle].append(number)
    closest: dict[int, tuple[float, str]] = {}
    for dialogue in trained:
        shared = Counter(n for shingle in set(_shingles(dialogue)) for n in holders.get(shingle, ()))
        for number, count in shared.items():
            share = count / len(wanted[number])
            if share >= ENOUGH and share > closest.get(number, (0.0, ""))[0]:
                closest[number] = share, dialogue.id
    found = [NearDuplicate(held_out[n].id, name, round(share, 3)) for n, (share, name) in closest.items()]
    return sorted(found, key=lambda one: -one.share)


def _shingles(dialogue: Dialogue) -> Iterator[tuple[str, ...]]:
    """Runs of words within each message; a shorter message is one run."""
    for message in dialogue.messages:
        words = normalise(message.content).split()
        for start in range(max(1, len(words) - SHINGLE + 1)):
            if words:
                yield tuple(words[start : start + SHINGLE])
