"""BART by ONNX Runtime says what transformers says: in 32 bit the same, in 8 nearly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import models
import pytest
import torch

from rag_chat.errors import ModelError
from rag_chat.generation import onnx_decoder
from rag_chat.generation.decoding import Limits, TorchDecoder
from rag_chat.generation.fusion import stack
from rag_chat.generation.onnx_decoder import OnnxDecoder, fast_decoder
from rag_chat.generation.seq2seq import Seq2SeqGenerator, load_seq2seq

TURNS = stack(
    [[[2, 30, 31, 32, 3], [2, 33, 3]], [[2, 40, 41, 3]], [[2, 7, 3], [2, 8, 9, 3], [2, 9, 3]]], pad=0
)


@pytest.fixture(scope="module")
def bart() -> Any:
    """Its sides differ in layers, heads and inner width, so that none is taken for another."""
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(6)
    config = BartConfig(
        vocab_size=60,
        d_model=32,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=64,
        max_position_embeddings=40,
        init_std=0.3,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
    )
    model = BartForConditionalGeneration(config).eval()
    for name, weight in model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            torch.nn.init.normal_(weight, 1.0 if name.endswith("norm.weight") else 0.0, 0.2)
    model.final_logits_bias.normal_()
    return model


@pytest.mark.parametrize("limits", [Limits(1), Limits(24), Limits(24, bias=(17, 1.5))])
def test_in_32_bit_it_is_transformers(bart: Any, limits: Limits) -> None:
    wanted = TorchDecoder(bart).decode(*TURNS, limits)
    found = OnnxDecoder(bart).decode(*TURNS, limits)
    assert [one.ids for one in found] == [one.ids for one in wanted]
    assert max(len(one.ids) for one in found) == limits.tokens
    for one, other in zip(found, wanted, strict=True):
        assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-3)
        assert one.attention == pytest.approx(other.attention, abs=1e-3)
        assert one.biased == pytest.approx(other.biased, abs=1e-3)


def test_in_8_bit_a_turn_has_one_answer_whatever_its_company(bart: Any) -> None:
    decoder = OnnxDecoder(bart, int8=True)
    alone = [decoder.decode(TURNS[0][i : i + 1], TURNS[1][i : i + 1], Limits(24))[0] for i in range(3)]
    assert decoder.decode(*TURNS, Limits(24)) == alone
    assert [sum(one.attention) for one in alone] == pytest.approx([1.0] * 3)


def test_each_step_is_told_and_can_be_the_last(bart: Any) -> None:
    told: list[list[list[int]]] = []

    def step(ids: list[list[int]]) -> list[bool]:
        told.append(ids)
        return [len(ids[0]) == 3, False]

    decoder = OnnxDecoder(bart)
    short, whole = decoder.decode(TURNS[0][:2], TURNS[1][:2], Limits(24), step)
    assert [ids[0] for ids in told[:3]] == [list(short.ids[:n]) for n in (1, 2, 3)]
    assert len(short.ids) == 3
    assert whole == decoder.decode(TURNS[0][1:2], TURNS[1][1:2], Limits(24))[0]
    assert len(told) == len(whole.ids)


def test_it_is_chosen_for_a_greedy_bart_on_the_cpu(trained_reader: Path, tmp_path: Path) -> None:
    assert isinstance(Seq2SeqGenerator(trained_reader, device="cpu")._decoder, OnnxDecoder)
    beams = replace(models.SHORT, beams=2)
    for other in (
        Seq2SeqGenerator(trained_reader, device="cpu", fast=False),
        Seq2SeqGenerator(trained_reader, device="cpu", settings=beams),
        Seq2SeqGenerator(models.t5(tmp_path), device="cpu"),
    ):
        assert isinstance(other._decoder, TorchDecoder)


def test_it_is_not_chosen_where_it_cannot_be_had(bart: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fast_decoder(bart) is not None
    monkeypatch.setattr(onnx_decoder, "find_spec", lambda _: None)
    assert fast_decoder(bart) is None


def test_where_it_computes_something_else_it_is_not_used(
    bart: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exact = onnx_decoder._weights

    def broken(*given: Any) -> dict[str, Any]:
        weights = exact(*given)
        return weights | {"shared.table": -weights["shared.table"]}

    monkeypatch.setattr(onnx_decoder, "_weights", broken)
    assert fast_decoder(bart) is None
    assert "something else" in caplog.text


def test_a_failure_is_told_as_any_readers(trained_reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Seq2SeqGenerator(trained_reader, device="cpu")
    assert isinstance(reader._decoder, OnnxDecoder)
    monkeypatch.setattr(reader._decoder, "_encoder", None)
    with pytest.raises(ModelError, match="failed while answering"):
        reader.generate([models.PAIRS[0].turn])


def test_the_packaged_reader_agrees_with_itself() -> None:
    model, tokenizer = load_seq2seq("reader")
    decoder = fast_decoder(model.eval())
    assert decoder is not None
    text = "question: Where does it lie?\npassage: Tromsø: The city of Tromsø lies in the north of Norway."
    ids, mask = stack([[tokenizer(text).input_ids]], pad=0)
    assert (
        decoder.decode(ids, mask, Limits(16))[0].ids
        == TorchDecoder(model).decode(ids, mask, Limits(16))[0].ids
    )
