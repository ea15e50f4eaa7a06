"""Copying: the probabilities by the book, as served and as trained, and a name that no training had."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import models
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rag_chat.config import TrainingSettings
from rag_chat.errors import TrainingError
from rag_chat.generation.checkpoint import read_card
from rag_chat.generation.copying import FIRST_LOGIT, begin_copying, copying, mixed
from rag_chat.generation.decoding import NO_REPEAT, Limits, TorchDecoder
from rag_chat.generation.fusion import stack
from rag_chat.generation.onnx_decoder import OnnxDecoder
from rag_chat.generation.seq2seq import Seq2SeqGenerator, load_seq2seq
from rag_chat.training.examples import Example
from rag_chat.training.finetune import _with_lora, finetune
from rag_chat.types import Passage, Turn

UNKNOWN = 1
TURNS = stack([[[2, 30, 31, 32, 3], [2, 33, 3]], [[2, 40, 41, 3]]], pad=0)


@pytest.fixture(scope="module")
def copier() -> Any:
    """A model of random weights that copies much."""
    tokenizer = models.wordpiece()
    model = models.bart(tokenizer).eval()
    for weight in model.parameters():
        weight.data *= 8  # sharp enough for its answers to differ
    begin_copying(model, tokenizer.unk_token_id)
    return model


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3]))
def test_what_is_said_is_known_or_copied(seed: int, beams: int) -> None:
    torch.manual_seed(seed)
    rows, steps, words, states = 2 * beams, 3, 7, 5
    logits = torch.randn(rows, steps, words) * 3
    attentions = [torch.randn(rows, 2, steps, states).softmax(-1) for _ in range(2)]
    source = torch.randint(0, words, (2, states))
    found = mixed(logits, attentions, source, UNKNOWN)
    for row in range(rows):
        for step in range(steps):
            known = logits[row, step].softmax(-1).tolist()
            wanted = [0.0 if word == UNKNOWN else share for word, share in enumerate(known)]
            for state, word in enumerate(source[row // beams].tolist()):
                heads = [layer[row, head, step, state] for layer in attentions for head in range(2)]
                wanted[word] += known[UNKNOWN] * float(sum(heads)) / len(heads)
            assert found[row, step].exp().tolist() == pytest.approx(wanted, abs=1e-5)
            assert sum(wanted) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("bias", [None, (17, 1.5)])
def test_both_decoders_copy_alike(copier: Any, bias: tuple[int, float] | None) -> None:
    limits = Limits(12, bias=bias, copy=UNKNOWN)
    wanted, found = (kind(copier).decode(*TURNS, limits) for kind in (TorchDecoder, OnnxDecoder))
    assert [one.ids for one in found] == [one.ids for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-3)
        assert one.biased == pytest.approx(other.biased, abs=1e-3)
    assert wanted != TorchDecoder(copier).decode(*TURNS, replace(limits, copy=None))


def test_beams_copy_from_their_own_turn(copier: Any) -> None:
    limits = Limits(8, beams=3, copy=UNKNOWN)
    decoder = TorchDecoder(copier)
    together = decoder.decode(*TURNS, limits)
    for row, said in enumerate(together):
        (alone,) = decoder.decode(TURNS[0][row : row + 1], TURNS[1][row : row + 1], limits)
        assert said.ids == alone.ids


def test_threads_that_share_a_model_copy_from_their_own_turns(copier: Any) -> None:
    decoder, limits = TorchDecoder(copier), Limits(8, copy=UNKNOWN)
    rows = [0, 1] * 8
    alone = [decoder.decode(TURNS[0][i : i + 1], TURNS[1][i : i + 1], limits) for i in (0, 1)]
    with ThreadPoolExecutor(4) as threads:
        said = threads.map(lambda i: decoder.decode(TURNS[0][i : i + 1], TURNS[1][i : i + 1], limits), rows)
        assert [one[0].ids for one in said] == [alone[i][0].ids for i in rows]


def test_a_model_is_as_it_was_when_copying_ends(copier: Any) -> None:
    source = torch.tensor([[2, 30, 3]])
    with torch.no_grad():
        asked = {
            "encoder_outputs": copier.get_encoder()(source),
            "decoder_input_ids": torch.tensor([[2]]),
        }
        before = copier(**asked).logits
        with copying(copier, source, UNKNOWN):
            assert float(copier(**asked).logits.exp().sum()) == pytest.approx(1.0, abs=1e-4)
        assert torch.equal(copier(**asked).logits, before)


def test_low_rank_updates_are_trained_and_scored_as_they_will_be_served(copier: Any) -> None:
    wrapped = _with_lora(copy.deepcopy(copier), 2).eval()
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    source = TURNS[0][:1].flatten(1)
    said = {"attention_mask": TURNS[1][:1].flatten(1), "input_ids": source}
    with torch.no_grad(), copying(wrapped, source, UNKNOWN):
        trained = wrapped(**said, decoder_input_ids=torch.tensor([[2]])).logits
        answer = wrapped.generate(**said, max_new_tokens=6, do_sample=False, no_repeat_ngram_size=NO_REPEAT)
    merged = wrapped.merge_and_unload()
    with torch.no_grad(), copying(merged, source, UNKNOWN):
        served = merged(**said, decoder_input_ids=torch.tensor([[2]])).logits
        assert torch.allclose(served.exp(), trained.exp(), atol=1e-4)
        again = merged.generate(**said, max_new_tokens=6, do_sample=False, no_repeat_ngram_size=NO_REPEAT)
    assert answer.tolist() == again.tolist()


def test_a_model_begins_to_copy_once(tmp_path: Path) -> None:
    model = models.bart(models.wordpiece())
    begin_copying(model, UNKNOWN)
    assert model.final_logits_bias[0, UNKNOWN] == FIRST_LOGIT
    model.get_input_embeddings().weight.data[UNKNOWN] = 0.5
    begin_copying(model, UNKNOWN)
    assert model.get_input_embeddings().weight[UNKNOWN].eq(0.5).all()
    with pytest.raises(TrainingError, match="it has no unknown token"):
        begin_copying(model, None)
    with pytest.raises(TrainingError, match="its logits have no bias"):
        begin_copying(load_seq2seq(str(models.t5(tmp_path)))[0], UNKNOWN)


def test_a_name_that_was_never_said_is_copied(tmp_path: Path) -> None:
    """Trained to say the name in the passage, a copier says names that it was never taught, others do not."""
    tokenizer = models.wordpiece()
    names = "abcdefghijklmnopqrstuvwxyz"
    known, new = names[:20], names[20:]

    def example(name: str) -> Example:
        passage = Passage(name, f"{name}.md", "", f"The city is {name}.", 0, 14)
        return Example(name, Turn("Where is it?", (), (passage,)), name)

    settings = TrainingSettings(
        epochs=60, batch_size=20, learning_rate=5e-3, warmup_steps=10, eval_every=60, passages=1, dropout=0.0
    )
    right = {}
    for copies in (True, False):
        folder = tmp_path / str(copies)
        generation = replace(models.SHORT, copy=copies)
        finetune(
            models.bart(tokenizer), tokenizer, [example(n) for n in known], [example(n) for n in known[:2]],
            folder, settings=settings, generation=generation,
        )  # fmt: skip
        assert read_card(folder) == generation
        said = models.texts(Seq2SeqGenerator(folder), [example(n).turn for n in new])
        right[copies] = sum(text.lower() == name for text, name in zip(said, new, strict=True))
    assert right[True] == len(new) > right[False]
