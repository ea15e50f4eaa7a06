"""Fine-tuning learns, stops when told to, goes on where it was, and writes nothing when it fails."""

from __future__ import annotations

import json
import logging
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import models
import pytest
import torch

from rag_chat.config import GenerationSettings, TrainingSettings
from rag_chat.errors import ModelError, TrainingError, UsageError
from rag_chat.generation.checkpoint import read_card
from rag_chat.generation.seq2seq import Seq2SeqGenerator, load_seq2seq
from rag_chat.training.evidence import gather
from rag_chat.training.finetune import finetune
from rag_chat.training.report import TrainingReport
from rag_chat.types import Dialogue, Message

TOKENIZER = models.wordpiece()
FEW = replace(models.QUICK, epochs=4, eval_every=2)


def run(model: Any, output: Path, settings: TrainingSettings = FEW, **options: Any) -> TrainingReport:
    return finetune(
        model,
        TOKENIZER,
        models.PAIRS,
        models.PAIRS,
        output,
        settings=settings,
        generation=models.SHORT,
        **options,
    )


def test_two_pairs_are_learnt_by_heart(trained_reader: Path) -> None:
    written = json.loads((trained_reader / "training.json").read_text())
    assert written["settings"]["epochs"] == models.QUICK.epochs
    assert written["report"]["best_f1"] == 1.0
    assert [step for step, _ in written["report"]["curve"]] == [30, 60]
    assert read_card(trained_reader) == models.SHORT
    assert [path.name for path in trained_reader.parent.iterdir()] == ["reader"]
    assert (trained_reader / "curve.png").read_bytes()[:4] == b"\x89PNG"


def test_dev_answers_are_held_against_their_own_targets(trained_reader: Path) -> None:
    """Batches by length come out of order, the longest first: each answer must meet its own target."""
    model, _ = load_seq2seq(str(trained_reader))
    again = trained_reader.with_name("again")
    for pairs in (models.PAIRS, models.PAIRS[::-1]):
        settings = replace(FEW, epochs=1, learning_rate=0.0)
        report = finetune(model, TOKENIZER, pairs, pairs, again, settings=settings, generation=models.SHORT)
        assert report.best_f1 == 1.0
    shutil.rmtree(again)


def test_progress_goes_to_the_log_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rag_chat")
    report = run(models.bart(TOKENIZER), tmp_path / "out")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "%|" not in captured.err  # no progress bar either
    assert "step 4 of 4: loss" in caplog.text
    assert "dev_f1" in caplog.text
    assert "examples/s" in caplog.text
    assert report.examples == 8
    assert [step for step, _ in report.curve] == [2, 4]
    assert report.device == "cpu"


def test_the_last_step_is_evaluated_however_short_the_run(tmp_path: Path) -> None:
    report = run(models.bart(TOKENIZER), tmp_path / "out", replace(FEW, epochs=3, eval_every=200))
    assert [step for step, _ in report.curve] == [3]


def test_cross_attention_may_learn_faster(tmp_path: Path) -> None:
    model = models.bart(TOKENIZER)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    run(model, tmp_path / "out", replace(FEW, learning_rate=0.0, cross_learning_rate=1e-2))
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved
    assert all("encoder_attn." in name for name in moved)


@pytest.mark.parametrize("known", [True, False])
def test_precision_is_what_the_cpu_multiplies_in(
    known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag_chat.training.trainer import arguments

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: known)
    assert arguments(tmp_path, FEW).bf16 is known


def test_training_ends_when_the_dev_score_rises_no_more(tmp_path: Path) -> None:
    settings = replace(FEW, epochs=50, eval_every=1, learning_rate=0.0, patience=3)
    report = run(models.bart(TOKENIZER), tmp_path / "out", settings)
    assert [step for step, _ in report.curve] == [1, 2, 3, 4]


def test_lora_trains_little_and_is_merged(tmp_path: Path) -> None:
    before = models.bart(TOKENIZER)
    report = run(models.bart(TOKENIZER), tmp_path / "out", replace(FEW, lora_rank=2))
    assert 0 < report.trained_parameters < report.parameters / 5
    after, _ = load_seq2seq(str(tmp_path / "out"))
    weights = dict(after.named_parameters())
    assert weights.keys() == dict(before.named_parameters()).keys()
    moved = {name for name, weight in before.named_parameters() if not torch.equal(weight, weights[name])}
    assert moved
    assert not any("layer_norm" in name or "embed" in name for name in moved)


def test_what_a_step_cannot_be_cut_into_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be shared evenly"):
        run(models.bart(TOKENIZER), tmp_path / "out", replace(FEW, accumulate=4))


def test_passages_are_fused_in_training_as_they_are_served(tmp_path: Path) -> None:
    """Learnt by heart over two passages each, and answered the same by the generator that serves."""
    pairs = [
        replace(one, turn=replace(one.turn, passages=passages))
        for one, passages in zip(
            models.PAIRS, [(models.PLACE, models.EGGS), (models.EGGS, models.PLACE)], strict=True
        )
    ]
    fused = replace(models.SHORT, fuse="decoder")
    report = finetune(
        models.bart(TOKENIZER), TOKENIZER, pairs, pairs, tmp_path / "out",
        settings=models.QUICK, generation=fused,
    )  # fmt: skip
    assert report.best_f1 == 1.0
    served = Seq2SeqGenerator(tmp_path / "out")
    assert served.settings.fuse == "decoder"
    assert [one.text for one in served.generate([e.turn for e in pairs])] == list(models.ANSWERS)


class Interrupted(Exception):
    pass


def test_a_run_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = models.bart(TOKENIZER)
    wanted = run(whole, tmp_path / "whole")

    from rag_chat.training.progress import Clock

    def stop(_: Clock, __: Any, state: Any, control: Any, **___: Any) -> Any:
        if state.global_step == 3:
            raise Interrupted
        return control

    with monkeypatch.context() as patch:
        patch.setattr(Clock, "on_step_end", stop)
        with pytest.raises(Interrupted):
            run(models.bart(TOKENIZER), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out.training" / "checkpoint-3").mkdir()  # one that was cut off while it was written
    model = models.bart(TOKENIZER, seed=9)  # its weights are replaced by the checkpoint's
    report = run(model, tmp_path / "out", resume=True)
    assert report.curve == wanted.curve
    for one, other in zip(whole.parameters(), model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_fresh_run_takes_nothing_from_an_earlier_one(tmp_path: Path) -> None:
    stale = tmp_path / "out.training" / "checkpoint-900"
    stale.mkdir(parents=True)
    (stale / "trainer_state.json").write_text("{}")
    run(models.bart(TOKENIZER), tmp_path / "out", replace(FEW, epochs=1, eval_every=1))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_resuming_with_nothing_to_resume_begins_anew(tmp_path: Path) -> None:
    assert run(models.bart(TOKENIZER), tmp_path / "out", replace(FEW, epochs=1), resume=True).examples == 2


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    model = models.bart(TOKENIZER)
    torch.nn.init.constant_(model.final_logits_bias, float("nan"))
    (tmp_path / "out").mkdir()
    with pytest.raises(TrainingError, match="loss became nan"):
        run(model, tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())


def test_processes_that_do_not_find_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = iter((1, 2, 2))  # the trainer is told of one, as if the other were not there
    monkeypatch.setattr("rag_chat.training.finetune.world_size", lambda: next(started))
    with pytest.raises(TrainingError, match="2 processes were started and 1 found") as caught:
        run(models.bart(TOKENIZER), tmp_path / "out")
    assert "torchrun --nproc_per_node N --no-python rag-chat train" in caught.value.fix


@pytest.mark.parametrize(("train", "dev"), [((), models.PAIRS), (models.PAIRS, ())])
def test_nothing_to_train_or_test_on(tmp_path: Path, train: Any, dev: Any) -> None:
    with pytest.raises(TrainingError, match=f"{len(train)} training and {len(dev)} dev"):
        finetune(None, TOKENIZER, train, dev, tmp_path / "out", settings=FEW, generation=GenerationSettings())


def test_what_is_no_model_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(ModelError, match="is not a model"):
        run(None, tmp_path)


def test_the_clock_stops_training_after_a_last_evaluation(tmp_path: Path) -> None:
    report = run(
        models.bart(TOKENIZER), tmp_path / "out", replace(FEW, epochs=1000, eval_every=500, max_minutes=1e-6)
    )
    assert [step for step, _ in report.curve] == [1]
    assert (tmp_path / "out" / "rag_chat.json").is_file()


def test_only_a_token_that_starts_every_decoding_is_left_unsaid() -> None:
    from rag_chat.training.batches import tokenise

    (one, _) = tokenise(models.PAIRS, TOKENIZER, models.SHORT, start=2)
    assert one["input_ids"][0][0] == 2
    assert TOKENIZER.decode(one["labels"]) == "tromsø lies in norway. [SEP]"
    (other, _) = tokenise(models.PAIRS, TOKENIZER, models.SHORT, start=3)  # BART's own start is </s>
    assert other["labels"] == [2, *one["labels"]]


BOILING = Dialogue(
    "mine",
    (
        Message("user", "How long do I boil an egg?"),
        Message("assistant", "Six minutes.", sources=("food/eggs.md",)),
        Message("user", "Thanks!"),
        Message("assistant", "Welcome!"),
    ),
)


@pytest.mark.parametrize("k", [1, 5])
def test_a_turn_is_given_its_evidence(tiny_index: Any, k: int) -> None:
    for seed in range(3):
        asked, thanks = gather([BOILING], tiny_index, k=k, gold_dropout=0.0, rng=random.Random(seed))
        assert len(asked.turn.passages) == len(thanks.turn.passages) == k
        assert any(p.source == "food/eggs.md" for p in asked.turn.passages)
        assert (asked.target, thanks.target) == ("Six minutes.", "Welcome!")


def test_without_its_evidence_a_turn_is_an_abstention(tiny_index: Any) -> None:
    asked, thanks = gather([BOILING], tiny_index, k=13, gold_dropout=1.0, rng=random.Random(0))
    sources = {p.source for p in asked.turn.passages}
    assert asked.target == "unanswerable"
    assert "food/eggs.md" not in sources
    assert "food/tea.md" in sources  # other documents stay, or their absence would tell the answer
    assert thanks.target == "Welcome!"


def test_a_conversation_is_never_its_own_evidence(tiny_index: Any) -> None:
    known = Dialogue("d-eggs", BOILING.messages)
    for example in gather([known], tiny_index, k=13, gold_dropout=0.0, rng=random.Random(0)):
        assert all(p.source != "d-eggs" for p in example.turn.passages)
