"""A new encoder-decoder that starts from a BERT-like sentence embedder instead of from nothing.

BART and BERT share the post-layer-norm block, so the weights of an embedder fit a stock
`BartForConditionalGeneration` one to one (Rothe et al. 2020 start seq2seq models the same way). The
decoder's cross-attention has no counterpart in BERT and starts from the self-attention of its layer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_chat.errors import ModelError

if TYPE_CHECKING:
    import torch

WARM_START = "warm-start"
"""The name of this base model where a model is asked for: `rag-chat train --base warm-start`."""

_ATTENTION = {
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "self_attn_layer_norm",
}
_FEED_FORWARD = {
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "output.LayerNorm": "final_layer_norm",
}
_BART_OFFSET = 2  # BART's learned positions begin at row 2


def warm_start(embedder: str | Path) -> tuple[Any, Any]:
    """Return (model, tokenizer): a float32 BartForConditionalGeneration made from a BERT checkpoint.

    embedder: a folder or name that `AutoModel` loads as BERT. Raises ModelError for any other model.
    """
    from transformers import AutoModel, AutoTokenizer, BartForConditionalGeneration
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        bert, tokenizer = AutoModel.from_pretrained(embedder), AutoTokenizer.from_pretrained(embedder)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The embedder {embedder} could not be loaded: {str(error).strip().splitlines()[0]}",
            f"Use the packaged embedder: --base {WARM_START}",
        ) from error
    if bert.config.model_type != "bert":
        raise ModelError(
            f"A warm start needs a BERT-like embedder, and {embedder} is {bert.config.model_type!r}.",
            f"Use the packaged embedder: --base {WARM_START}",
        )
    model = BartForConditionalGeneration(_bart_config(bert.config, tokenizer))
    missing, unexpected = model.model.load_state_dict(_bart_state(bert), strict=False)
    if unexpected or any("embed_tokens" not in name for name in missing):
        raise ModelError(
            f"The weights of {embedder} do not fit: {[*missing, *unexpected][:3]}.",
            f"Use the packaged embedder: --base {WARM_START}",
        )
    model.tie_weights()
    return model, tokenizer


def _bart_config(bert: Any, tokenizer: Any) -> Any:
    from transformers import BartConfig

    return BartConfig(
        vocab_size=bert.vocab_size,
        d_model=bert.hidden_size,
        encoder_layers=bert.num_hidden_layers,
        decoder_layers=bert.num_hidden_layers,
        encoder_attention_heads=bert.num_attention_heads,
        decoder_attention_heads=bert.num_attention_heads,
        encoder_ffn_dim=bert.intermediate_size,
        decoder_ffn_dim=bert.intermediate_size,
        max_position_embeddings=bert.max_position_embeddings,
        activation_function=bert.hidden_act,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        decoder_start_token_id=tokenizer.cls_token_id,
        forced_eos_token_id=None,
        normalize_before=False,  # not read by transformers; converters to other engines ask for it
    )


def _bart_state(bert: Any) -> dict[str, torch.Tensor]:
    """BERT's weights under BART's names, for encoder and decoder both."""
    weights = bert.state_dict()
    words = weights["embeddings.word_embeddings.weight"]
    state = {"shared.weight": words}
    for side in ("encoder", "decoder"):
        state[f"{side}.embed_tokens.weight"] = words
        state[f"{side}.embed_positions.weight"] = _positions(weights)
        _copy(state, weights, "embeddings.LayerNorm", f"{side}.layernorm_embedding")
        for layer in range(bert.config.num_hidden_layers):
            old, new = f"encoder.layer.{layer}", f"{side}.layers.{layer}"
            for bert_name, bart_name in (_ATTENTION | _FEED_FORWARD).items():
                _copy(state, weights, f"{old}.{bert_name}", f"{new}.{bart_name}")
            if side == "decoder":
                for bert_name, bart_name in _ATTENTION.items():
                    cross = bart_name.replace("self_attn", "encoder_attn")
                    _copy(state, weights, f"{old}.{bert_name}", f"{new}.{cross}")
    return state


def _positions(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """Position rows with the first token type added in, which BERT adds to every token."""
    import torch

    rows = weights["embeddings.position_embeddings.weight"]
    rows = rows + weights["embeddings.token_type_embeddings.weight"][0]
    return torch.cat([rows[:1].repeat(_BART_OFFSET, 1), rows])


def _copy(state: dict[str, torch.Tensor], weights: dict[str, torch.Tensor], old: str, new: str) -> None:
    for kind in ("weight", "bias"):
        state[f"{new}.{kind}"] = weights[f"{old}.{kind}"].clone()
