"""What an encoder-decoder needs so that transformers can train it and generate with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput


class ClassicConfig(PretrainedConfig):  # type: ignore[misc]  # transformers ships no types
    """The sizes of a classic model; the rest is what every config of transformers holds."""

    vocab_size: int = 1000
    width: int = 192
    layers: int = 1
    dropout: float = 0.1
    pad_token_id: int = 0
    bos_token_id: int = 1
    eos_token_id: int = 2
    decoder_start_token_id: int = 1
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = False  # they are shared by construction


class ClassicSeq2Seq(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """An encoder, a decoder that attends over its states, and word vectors that both share."""

    base_model_prefix = ""
    main_input_name = "input_ids"
    _supports_flash_attn = _supports_sdpa = False

    def __init__(self, config: ClassicConfig, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.width, config.pad_token_id)
        self.reads = encoder  # transformers asks more of what is called encoder
        self.decoder = decoder
        self.post_init()

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def get_encoder(self, *_: Any, **__: Any) -> Any:
        return self._encode

    def get_decoder(self, *_: Any, **__: Any) -> nn.Module:
        return self.decoder

    def _encode(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> BaseModelOutput:
        return BaseModelOutput(self.reads(self.words(input_ids), attention_mask.bool()))

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        encoder_outputs: Any = None,
        **_: Any,
    ) -> Seq2SeqLMOutput:
        """Logits (batch, said, vocabulary) and, as cross_attentions, weights (batch, 1, said, read)."""
        if encoder_outputs is None:
            encoder_outputs = self._encode(input_ids, attention_mask)
        states = encoder_outputs.last_hidden_state
        said, weights = self.decoder(self.words(decoder_input_ids), states, attention_mask.bool())
        logits = said @ self.words.weight.T
        return Seq2SeqLMOutput(logits=logits, cross_attentions=(weights.unsqueeze(1),))

    def prepare_inputs_for_generation(
        self, decoder_input_ids: Tensor, encoder_outputs: Any = None, attention_mask: Any = None, **_: Any
    ) -> dict[str, Any]:
        """All that was said is read again at each step: these models keep no cache."""
        return {
            "decoder_input_ids": decoder_input_ids,
            "encoder_outputs": encoder_outputs,
            "attention_mask": attention_mask,
        }


class ClassicDecoder(nn.Module):
    """A decoder that always tells its attention."""

    def __init__(self, config: ClassicConfig) -> None:
        super().__init__()
        self.config = config

    def set_attn_implementation(self, name: str) -> None:
        """There is one only."""


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Attention weights over the last axis; places without a token get none."""
    return torch.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), dim=-1)
