"""Examples as token ids, and batches of like length that are the same however many processes share them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch

from rag_chat.config import GenerationSettings
from rag_chat.generation.fusion import stack
from rag_chat.training.examples import Example, model_inputs

IGNORED = -100
"""The label of a place that is padding."""

POOL = 50  # batches that are sorted by length together


class Row(TypedDict):
    """One example as token ids: each of its inputs (one a passage where they are fused), and its reply."""

    input_ids: list[list[int]]
    labels: list[int]


def tokenise(
    examples: Sequence[Example], tokenizer: Any, generation: GenerationSettings, *, start: int
) -> list[Row]:
    """Return the rows of examples; a leading token that starts every decoding is nothing to say."""

    def count(text: str) -> int:
        return len(tokenizer(text, verbose=False).input_ids)

    inputs = [model_inputs(e, generation, count) for e in examples]
    targets = tokenizer(
        text_target=[e.target for e in examples],
        truncation=True,
        max_length=generation.answer_tokens + 2,
    ).input_ids
    texts = [text for one in inputs for text in one]
    encoded = iter(tokenizer(texts, truncation=True, max_length=generation.input_tokens).input_ids)
    return [
        Row(
            input_ids=list(itertools.islice(encoded, len(one))),
            labels=said[1:] if said[:1] == [start] else said,
        )
        for one, said in zip(inputs, targets, strict=True)
    ]


def cost(row: Row) -> int:
    """What a row costs to read, in tokens: each passage is padded to the longest."""
    return len(row["input_ids"]) * max(map(len, row["input_ids"]))


@dataclass(frozen=True, slots=True)
class Collator:
    """Pads rows to a batch: input_ids and attention_mask (batch, passages, tokens), labels (batch, reply)."""

    pad: int
    start: int

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        inputs, mask = stack([row["input_ids"] for row in rows], pad=self.pad)
        labels = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(row["labels"]) for row in rows], batch_first=True, padding_value=IGNORED
        )
        before = torch.full((len(rows), 1), self.start)
        said = torch.cat([before, labels[:, :-1]], dim=1)
        return {
            "input_ids": inputs,
            "attention_mask": mask,
            "labels": labels,
            "decoder_input_ids": said.masked_fill(said == IGNORED, self.pad),
        }


class LengthGrouped(torch.utils.data.Sampler[int]):
    """An order of rows in which every `batch` neighbours are of like length.

    It depends on the seed and the epoch alone, so that a run that goes on, or is shared by several
    processes, sees the batches of one that was never interrupted or shared.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths = lengths
        self._batch = batch
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self._seed} {self._epoch}")
        order = list(range(len(self._lengths)))
        rng.shuffle(order)
        batches = [batch for pool in _cut(order, POOL * self._batch) for batch in self._by_length(pool)]
        rest = [batches.pop()] if len(batches[-1]) < self._batch else []  # a part of a batch comes last
        rng.shuffle(batches)
        return (row for batch in [*batches, *rest] for row in batch)

    def _by_length(self, pool: list[int]) -> list[list[int]]:
        return _cut(sorted(pool, key=lambda row: self._lengths[row]), self._batch)


def _cut(rows: list[int], size: int) -> list[list[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
