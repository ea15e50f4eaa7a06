"""Token ids in, token ids out: an encoder-decoder run by transformers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rag_chat.generation.copying import copying, show_attention
from rag_chat.generation.fusion import fuse, passage_shares

if TYPE_CHECKING:
    from torch import Tensor

OnStep = Callable[[list[list[int]]], list[bool]]
"""Told all token ids said so far in answer to each turn, after each step; a turn with True is given up."""

NO_REPEAT = 4
"""No run of so many tokens is said twice: a small reader may loop on a long answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How to decode: the most tokens to say, beams (1: greedy), and (token, bias) added to its logit.

    copy: the token whose probability is that of copying, for a model that copies.
    """

    tokens: int
    beams: int = 1
    bias: tuple[int, float] | None = None
    copy: int | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """What was said to one turn.

    ids: the tokens after the start, the end token included. log_likelihood: their mean natural-log
    probability, before bias and bans. attention: shares of the passages, as `Generated` has them.
    biased: the log-probability, before the bias, of beginning with the token that has one.
    """

    ids: tuple[int, ...]
    log_likelihood: float
    attention: tuple[float, ...]
    biased: float | None = None


class Decoder(Protocol):
    """Runs an encoder-decoder over fused passages."""

    def decode(
        self, ids: Tensor, mask: Tensor, limits: Limits, on_step: OnStep | None = None
    ) -> list[Decoded]:
        """Answer each turn. ids, mask: (batch, passages, tokens) int64, as `fusion.stack` makes them."""
        ...


class TorchDecoder:
    """An encoder-decoder run by transformers: any architecture, any device, beams too.

    The encoder keeps the attention it has; the decoder's is made one that shows its weights.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._turn = threading.Lock()  # copying hooks into the model, which threads share
        model.generation_config.max_length = None  # a default of 20 that the limits replace
        show_attention(model.get_decoder())

    def decode(
        self, ids: Tensor, mask: Tensor, limits: Limits, on_step: OnStep | None = None
    ) -> list[Decoded]:
        """Answer each turn: see Decoder."""
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        ids, mask = ids.to(self._model.device), mask.to(self._model.device)
        with self._turn, torch.inference_mode(), copying(self._model, ids.flatten(1), limits.copy):
            states, flat = fuse(self._encode, ids, mask)
            out = self._model.generate(
                encoder_outputs=BaseModelOutput(states), attention_mask=flat, **_options(limits, on_step)
            )
            real, likely = self._likely(out)
            shares = passage_shares(_mass(out, real), mask)
            biased = _biased(out, limits, len(real))
        said, present = out.sequences[:, -real.shape[1] :], mask.any(-1)
        return [
            Decoded(tuple(row[keep].tolist()), mean, tuple(share[there].tolist()), first)
            for row, keep, mean, share, there, first in zip(
                said, real, likely, shares, present, biased, strict=True
            )
        ]

    def _encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self._model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        return states

    def _likely(self, out: Any) -> tuple[Tensor, list[float]]:
        """Which tokens (batch, steps) were said, end included and padding not; their mean log-probability."""
        import torch

        each = self._model.compute_transition_scores(
            out.sequences, out.logits, out.get("beam_indices"), normalize_logits=True
        )
        ends = torch.tensor(self._model.generation_config.eos_token_id, device=each.device)
        ended = torch.isin(out.sequences[:, -each.shape[1] :], ends).int()
        real = ended.cumsum(-1) - ended == 0
        return real, ((each * real).sum(-1) / real.sum(-1)).tolist()


def _options(limits: Limits, on_step: OnStep | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "max_new_tokens": limits.tokens,
        "num_beams": limits.beams,
        "do_sample": False,
        "no_repeat_ngram_size": NO_REPEAT,
        "sequence_bias": [[[limits.bias[0]], limits.bias[1]]] if limits.bias else None,
        "return_dict_in_generate": True,
        "output_logits": True,
        "output_attentions": True,
    }
    if on_step:
        import torch

        def told(ids: Tensor, *_: Any, **__: Any) -> Tensor:
            return torch.tensor(on_step(ids[:, 1:].tolist()), device=ids.device)

        options["stopping_criteria"] = [told]
    return options


def _biased(out: Any, limits: Limits, turns: int) -> list[float | None]:
    """For each turn the log-probability of the biased token at the first step; its beams begin alike."""
    if limits.bias is None:
        return [None] * turns
    first = out.logits[0].float().log_softmax(-1)[:: limits.beams, limits.bias[0]]
    found: list[float | None] = first.tolist()
    return found


def _mass(out: Any, real: Tensor) -> Tensor:
    """Cross-attention (batch, source tokens), the mean of layers and heads, summed over the tokens said."""
    import torch

    beams, rows = out.get("beam_indices"), torch.arange(len(real), device=real.device)
    total = torch.zeros(len(real), out.cross_attentions[0][0].shape[-1], device=real.device)
    for place, layers in enumerate(out.cross_attentions[: real.shape[1]]):
        step = torch.stack([layer[:, :, -1].float().mean(1) for layer in layers]).mean(0)
        chosen = rows if beams is None else beams[:, place].clamp(min=0)
        total += step[chosen] * real[:, place, None]
    return total
