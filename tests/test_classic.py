"""The classic models learn two pairs by heart, are saved without pickle, and answer as any generator does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import models
import pytest
import torch
from click.testing import CliRunner

from rag_chat.commands import cli
from rag_chat.config import GenerationSettings
from rag_chat.corpus.writing import write_dialogues
from rag_chat.errors import ModelError
from rag_chat.generation import load_generator
from rag_chat.generation.classic.cnn import CnnConfig, CnnSeq2Seq
from rag_chat.generation.classic.ngram import END, SAYS, NgramGenerator, contexts, fit, save
from rag_chat.generation.classic.rnn import RnnConfig, RnnSeq2Seq
from rag_chat.training.run import train
from rag_chat.types import Dialogue, Message, Turn

NEURAL = ((RnnConfig, RnnSeq2Seq), (CnnConfig, CnnSeq2Seq))
EASY = replace(models.QUICK, epochs=40, eval_every=100)


@pytest.fixture
def dialogues(tmp_path: Path) -> Path:
    path = tmp_path / "dialogues.jsonl"
    write_dialogues(
        [
            Dialogue(
                f"c{number}",
                (
                    Message("user", pair.turn.question),
                    Message("assistant", pair.target, passages=pair.turn.passages),
                ),
            )
            for number, pair in enumerate(models.PAIRS * 4)
        ],
        path,
    )
    return path


@pytest.mark.parametrize("arch", ["ngram", "rnn", "cnn"])
def test_it_learns_by_heart_and_answers(arch: str, tmp_path: Path, dialogues: Path) -> None:
    base, output = models.saved_bart(tmp_path / "base"), tmp_path / "out"
    run = train(
        [dialogues], output, arch=arch, base=str(base), settings=EASY, generation=models.SHORT  # type: ignore[arg-type]
    )  # fmt: skip
    assert run is not None
    assert run.promoted
    assert (run.verdict.base, run.verdict.tuned) == (None, 1.0)
    generator = load_generator(output, embedder=models.WordEmbedder())
    turns = [pair.turn for pair in models.PAIRS]
    assert [one.text for one in generator.generate(turns)] == list(models.ANSWERS)
    assert "".join(generator.stream(turns[0])) == models.ANSWERS[0]
    assert "passage" in generator.prompt(turns[0]).text
    names = {path.name for path in output.iterdir()}
    assert {"rag_chat.json", "training.json", "config.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)


@pytest.mark.parametrize("name", ["counts.json", "rag_chat.json"])
def test_a_flipped_byte_is_refused(name: str, tmp_path: Path) -> None:
    save(fit([("a", "b c")]), tmp_path / "out", models.SHORT)
    path = tmp_path / "out" / name
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError):
        NgramGenerator(tmp_path / "out")


def test_words_are_counted_after_what_comes_before() -> None:
    counts = fit([("Where is it?", "In Norway.")] * 2)
    assert counts[f"it ? {SAYS}"] == {"in": 2}
    assert counts["in norway ."] == {END: 2}
    assert counts[""]["norway"] == 2
    assert list(contexts(["a", "b"])) == ["a b", "b", ""]


def test_ngrams_back_off_to_the_nearest_sentence(tmp_path: Path) -> None:
    save({}, tmp_path / "out", GenerationSettings())
    generator = NgramGenerator(tmp_path / "out")
    turn = Turn("How long do I boil an egg?", (), (models.PLACE, models.EGGS))
    assert generator.generate([turn])[0].text == models.EGGS.text


@pytest.mark.parametrize(("config", "kind"), NEURAL)
def test_padding_changes_nothing_and_the_future_is_not_seen(config: type, kind: type) -> None:
    torch.manual_seed(0)
    model = kind(config(vocab_size=20, width=16, layers=2, pad_token_id=0)).eval()
    said = torch.tensor([[1, 5, 6, 7]])
    read, mask = torch.tensor([[3, 4, 9]]), torch.ones(1, 3, dtype=torch.long)
    padded, longer = torch.tensor([[3, 4, 9, 0, 0]]), torch.tensor([[1, 1, 1, 0, 0]])
    with torch.no_grad():
        plain = model(input_ids=read, attention_mask=mask, decoder_input_ids=said)
        wide = model(input_ids=padded, attention_mask=longer, decoder_input_ids=said)
        cut = model(input_ids=read, attention_mask=mask, decoder_input_ids=said[:, :2])
    torch.testing.assert_close(wide.logits, plain.logits)
    torch.testing.assert_close(cut.logits, plain.logits[:, :2])
    weights = plain.cross_attentions[0]
    assert weights.shape == (1, 1, 4, 3)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 1, 4))


def test_they_are_arms_of_an_evaluation(tmp_path: Path, dialogues: Path) -> None:
    output = tmp_path / "ngram"
    done = CliRunner().invoke(cli, ["train", str(dialogues), "-o", str(output), "--arch", "ngram", "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["verdict"]["tuned"] > 0.9
    shown = CliRunner().invoke(cli, ["models", "info", str(output), "--json"])
    assert json.loads(shown.stdout)["architecture"] == "NgramGenerator"
