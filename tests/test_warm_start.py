"""A BERT becomes an encoder-decoder without losing a weight."""

from __future__ import annotations

from pathlib import Path

import models
import pytest
import torch

from rag_chat.errors import ModelError
from rag_chat.generation.warm_start import warm_start


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.bert(tmp_path_factory.mktemp("bert") / "bert")


def test_the_encoder_says_what_the_bert_says(folder: Path) -> None:
    from transformers import AutoModel

    model, tokenizer = warm_start(folder)
    bert = AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(["where is the city of tromso", "an egg"], padding=True, return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        wanted = bert(**inputs).last_hidden_state
        found = model.eval().get_encoder()(**inputs).last_hidden_state
    read = inputs["attention_mask"].bool()
    assert torch.allclose(found[read], wanted[read], atol=1e-2)  # the layer norms' eps differ
    assert wanted[read].std() > 0.1


def test_the_decoder_starts_from_the_same_layers(folder: Path) -> None:
    model, _ = warm_start(folder)
    encoder, decoder = model.model.encoder.layers, model.model.decoder.layers
    for one, other in zip(encoder, decoder, strict=True):
        assert torch.equal(one.self_attn.k_proj.weight, other.self_attn.k_proj.weight)
        assert torch.equal(one.self_attn.v_proj.weight, other.encoder_attn.v_proj.weight)
        assert torch.equal(one.self_attn_layer_norm.bias, other.encoder_attn_layer_norm.bias)
        assert torch.equal(one.fc2.bias, other.fc2.bias)


def test_words_are_tied_and_all_is_float32(folder: Path) -> None:
    model, _ = warm_start(folder)
    shared = model.model.shared.weight
    assert model.lm_head.weight is shared
    assert model.model.encoder.embed_tokens.weight is shared
    assert model.model.decoder.embed_tokens.weight is shared
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_special_tokens(folder: Path) -> None:
    model, tokenizer = warm_start(folder)
    for config in (model.config, model.generation_config):
        assert config.pad_token_id == tokenizer.pad_token_id
        assert config.eos_token_id == tokenizer.sep_token_id
        assert config.decoder_start_token_id == tokenizer.cls_token_id
        assert config.forced_eos_token_id is None


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    tokenizer = models.wordpiece()
    models.bart(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="'bart'") as caught:
        warm_start(tmp_path)
    assert "--base warm-start" in caught.value.fix


def test_no_model_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="could not be loaded"):
        warm_start(tmp_path / "nothing")
