"""Fusion in the decoder: each passage is read on its own, and the decoder attends over all of them.

Izacard & Grave 2021, "Leveraging Passage Retrieval with Generative Models for Open Domain Question
Answering". Reading costs grow linearly with the passages instead of with their square. Training and
serving both go through `fuse`; an encoder-decoder takes what it returns as
`model(encoder_outputs=BaseModelOutput(states), attention_mask=mask, ...)`, and so does `generate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rag_chat.config import Fuse, Skill
from rag_chat.generation.prompt import CountTokens, pack
from rag_chat.types import Prompt, Turn

if TYPE_CHECKING:
    from torch import Tensor

Encode = Callable[["Tensor", "Tensor"], "Tensor"]
"""(rows, tokens) ids and mask, int64 -> (rows, tokens, width) states: an encoder without the wrapping."""


def readings(
    turn: Turn, *, fuse: Fuse, budget: int, count_tokens: CountTokens, skill: Skill = "answer"
) -> tuple[Prompt, ...]:
    """The model inputs for a turn, at least one, each of at most `budget` tokens.

    "decoder": question and history packed with each passage on its own, in the turn's order; one alone
    where there is no passage. "concat": one input with all passages that fit. A turn of one passage
    gives the same input either way. A rewrite reads no passage, and so has one input.
    """
    parts = [turn]
    if fuse == "decoder" and skill != "rewrite" and turn.passages:
        parts = [replace(turn, passages=(passage,)) for passage in turn.passages]
    return tuple(pack(part, budget=budget, count_tokens=count_tokens, skill=skill) for part in parts)


def as_one(prompts: Sequence[Prompt]) -> Prompt:
    """The inputs of one turn as they are shown: one under the other; what several dropped is told once."""
    dropped = dict.fromkeys(line for prompt in prompts for line in prompt.dropped)
    return Prompt("\n\n".join(prompt.text for prompt in prompts), tuple(dropped))


def stack(turns: Sequence[Sequence[Sequence[int]]], *, pad: int) -> tuple[Tensor, Tensor]:
    """Token ids of each passage of each turn as (batch, passages, tokens) int64 ids and their 0/1 mask.

    Turns may have different numbers of passages, each at least one; the rest is padding.
    """
    import torch

    shape = len(turns), max(map(len, turns)), max(len(row) for rows in turns for row in rows)
    ids, mask = torch.full(shape, pad), torch.zeros(shape, dtype=torch.long)
    for i, rows in enumerate(turns):
        for j, row in enumerate(rows):
            ids[i, j, : len(row)] = torch.tensor(row)
            mask[i, j, : len(row)] = 1
    return ids, mask


def fuse(encode: Encode, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Encode every passage on its own and lay the states of a turn end to end; gradients flow through.

    ids, mask: (batch, passages, tokens) int64, as `stack` makes them. Returns states (batch,
    passages * tokens, width) in the encoder's dtype, zero where there is no passage, and the mask
    (batch, passages * tokens) that goes with them.
    """
    real = mask.any(-1)
    encoded = encode(ids[real], mask[real])
    states = encoded.new_zeros(*ids.shape, encoded.shape[-1])
    states[real] = encoded
    return states.flatten(1, 2), mask.flatten(1, 2)


def passage_shares(mass: Tensor, mask: Tensor) -> Tensor:
    """The share of attention that went to each passage.

    mass: (batch, passages * tokens), >= 0; mask: (batch, passages, tokens), as given to `fuse`. Returns
    (batch, passages); rows sum to 1, and absent passages have 0.
    """
    each = (mass.view(mask.shape) * mask).sum(-1)
    return each / each.sum(-1, keepdim=True)
