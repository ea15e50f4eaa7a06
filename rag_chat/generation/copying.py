"""Copying: a part of what a model says next is taken from what it reads (See, Liu and Manning 2017).

A small reader knows few names and numbers, and need not: it can point at them. How much it copies is the
probability it gives to its unknown token, which is never a reply's; where it copies from is what its decoder
attends to. So a checkpoint keeps its architecture, and other software still loads it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rag_chat.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 1e-9
"""Added to each probability, so that its logarithm is a number."""

FIRST_LOGIT = 10.0
"""The unknown token's logit before training: the packaged reader then copies 7% of what it says, and of 8, 10
and 12 this made the replies of the starter dev dialogues likeliest."""


@contextmanager
def copying(model: Any, source: Tensor, token: int | None) -> Iterator[None]:
    """While this is open, the logits of an encoder-decoder are logarithms of what it says when it copies.

    source: (batch, states) int64, the token ids of the encoder's states; beams are told by the batch that
    the model sees. token: the unknown one; None: nothing is copied.
    """
    if token is None:
        yield
        return

    def ask(_: Any, args: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**named, "output_attentions": True}

    def mix(_: Any, __: Any, output: Any) -> Any:
        output.logits = mixed(output.logits, output.cross_attentions, source, token)
        return output

    inner = getattr(model, "get_base_model", lambda: model)()  # of one that peft wraps
    hooks = inner.register_forward_pre_hook(ask, with_kwargs=True), inner.register_forward_hook(mix)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def mixed(logits: Tensor, attentions: Sequence[Tensor], source: Tensor, token: int) -> Tensor:
    """The log-probabilities of saying each word, whether by knowing or by copying it.

    logits: (rows, steps, words); attentions: of each layer (rows, heads, steps, states), rows sum to 1;
    source: (batch, states) int64, rows being a multiple of batch. Returns (rows, steps, words) float32.
    """
    import torch

    pointed = torch.stack([layer.float().mean(1) for layer in attentions]).mean(0)
    words = source.repeat_interleave(len(logits) // len(source), 0)[:, None].expand(pointed.shape)
    known = logits.float().softmax(-1)
    copied = known[..., token : token + 1] * pointed
    unknown = torch.tensor([token], device=known.device)
    return known.index_fill(-1, unknown, 0.0).scatter_add(-1, words, copied).add(LEAST).log()


def begin_copying(model: Any, token: int | None) -> None:
    """Make a model ready to copy; one that never did does so a little, and training finds how much is right.

    Raises TrainingError for a model without an unknown token, or whose logits have no bias; BART and its
    kin have both.
    """
    bias = getattr(model, "final_logits_bias", None)
    if bias is None or token is None:
        lacks = "its logits have no bias" if bias is None else "it has no unknown token"
        raise TrainingError(
            f"A {model.config.model_type!r} model cannot learn to copy: {lacks}.",
            "Leave copy=true out, or give a BART model with --base.",
        )
    if not bias[0, token]:
        bias[0, token] = FIRST_LOGIT
        model.get_input_embeddings().weight.data[token] = 0.0
    show_attention(model.get_decoder())


def show_attention(decoder: Any) -> None:
    """Have a decoder return its attention weights, which the fused kernels never hold."""
    config = copy.deepcopy(decoder.config)  # BART's encoder shares it
    for module in decoder.modules():
        if hasattr(module, "config"):
            module.config = config
    decoder.set_attn_implementation("eager")
