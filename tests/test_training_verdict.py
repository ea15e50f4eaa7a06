"""Splits, near-duplicates, the verdict, and the gate that a worse model does not pass."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import models
import pytest
from click.testing import CliRunner

from rag_chat.commands import cli
from rag_chat.corpus.writing import write_dialogues
from rag_chat.errors import CorpusError, TrainingError
from rag_chat.training import run as training_run
from rag_chat.training.duplicates import near_duplicates
from rag_chat.training.examples import Example
from rag_chat.training.run import read_dialogues, split, train
from rag_chat.training.verdict import answer_scores, judge
from rag_chat.types import Dialogue, Message, Turn

ENOUGH = replace(models.QUICK, epochs=16, eval_every=40)
PLANE = "The plane to Lisbon leaves at seven in the morning from gate twelve."


def said(name: str, *texts: str) -> Dialogue:
    roles = ("user", "assistant")
    return Dialogue(name, tuple(Message(roles[i % 2], text) for i, text in enumerate(texts)))  # type: ignore[arg-type]


def learnt(number: int) -> Dialogue:
    """One of the two pairs that the tiny reader can learn, as a conversation that carries its passages."""
    pair = models.PAIRS[number % 2]
    asked = Message("user", pair.turn.question)
    reply = Message("assistant", pair.target, passages=pair.turn.passages)
    return Dialogue(f"c{number}", (asked, reply))


def test_held_out_conversations_without_a_reply_are_refused_before_training(tmp_path: Path) -> None:
    write_dialogues([learnt(number) for number in range(4)], tmp_path / "train.jsonl")
    rewritten = Dialogue("r", (Message("user", "And in winter?", rewrite="Is it open in winter?"),))
    write_dialogues([rewritten], tmp_path / "dev.jsonl")
    with pytest.raises(TrainingError, match="no reply to compare with"):
        train([tmp_path / "train.jsonl"], tmp_path / "model", arch="ngram", dev=[tmp_path / "dev.jsonl"])
    assert not list(tmp_path.glob("model*"))


def test_splits_are_by_conversation_and_seeded() -> None:
    dialogues = [said(str(i), "Hi", "Hello") for i in range(40)]
    parts = split(dialogues, seed=3)
    names = [{d.id for d in part} for part in (parts.train, parts.dev, parts.test)]
    assert [len(part) for part in names] == [32, 4, 4]
    assert set.union(*names) == {d.id for d in dialogues}
    assert split(dialogues, seed=3) == parts
    assert split(dialogues, seed=4) != parts
    with pytest.raises(TrainingError, match="at least 3"):
        split(dialogues[:2], seed=3)


def test_files_of_two_folders_may_have_one_name(tmp_path: Path) -> None:
    write_trains(tmp_path, {"a": {"id": "first"}, "b": {"id": "second"}})
    paths = [tmp_path / name / "train.jsonl" for name in ("a", "b", "a")]
    assert [one.messages[0].content for one in read_dialogues(paths)] == ["a", "b"]


@pytest.mark.parametrize(("keys", "name"), [({}, "train.jsonl#1"), ({"id": "one"}, "one")])
def test_conversations_of_two_files_need_ids_of_their_own(
    tmp_path: Path, keys: dict[str, str], name: str
) -> None:
    write_trains(tmp_path, {"a": keys, "b": keys})
    first, second = paths = [tmp_path / folder / "train.jsonl" for folder in "ab"]
    with pytest.raises(CorpusError, match="id of its own") as caught:
        read_dialogues(paths)
    assert caught.value.problem == f"{first} and {second} both have a conversation {name!r}."


def write_trains(place: Path, folders: Mapping[str, Mapping[str, str]]) -> None:
    """A train.jsonl in each folder: one conversation about its name, with these keys."""
    for name, keys in folders.items():
        said = [{"role": "user", "content": name}, {"role": "assistant", "content": "Yes."}]
        (place / name).mkdir()
        (place / name / "train.jsonl").write_text(json.dumps({**keys, "messages": said}), encoding="utf-8")


def test_near_duplicates_are_found_whatever_their_case_and_ending() -> None:
    trained = [said("x", "Hello there", PLANE), said("y", "When?", PLANE.upper() + " Be early.")]
    (found,) = near_duplicates(trained, [said("held", "When?", PLANE), said("other", "Hm", "Quite so.")])
    assert (found.held_out, found.trained, found.share) == ("held", "y", 1.0)
    assert near_duplicates(trained, [said("held", "Where to?", "The plane to Lisbon leaves at nine.")]) == []


def test_a_verdict_says_who_won() -> None:
    names = [str(i) for i in range(20)]
    low, high = [0.1] * 20, [0.9] * 20
    won, lost, even = (
        judge(one, other, names, measure="token F1") for one, other in ((low, high), (high, low), (low, low))
    )
    assert str(won).startswith("the tuned model won: token F1 on 20 turns of 20 held-out conversations")
    assert "+80.0 [+80.0, +80.0]" in str(won)
    assert str(lost).startswith("the base won")
    assert str(even).startswith("neither won")
    assert (won.worse, lost.worse, even.worse) == (False, True, False)
    assert judge(None, low, names, measure="token F1").difference is None


def test_an_abstention_scores_only_where_it_is_wanted() -> None:
    examples = [Example("d", Turn("a"), "Six."), Example("d", Turn("b"), "unanswerable")]
    scripts = {
        "good": ("six", "Unanswerable."),
        "marks": ("six", "\u201cUnanswerable!\u201d"),
        "bad": ("...", "six"),
    }
    for name, wanted in (("good", [1.0, 1.0]), ("marks", [1.0, 1.0]), ("bad", [0.0, 0.0])):
        generator = models.Scripted(dict(zip("ab", scripts[name], strict=True)))
        assert answer_scores(generator, examples) == wanted


@pytest.fixture
def dialogues(tmp_path: Path) -> Path:
    path = tmp_path / "dialogues.jsonl"
    write_dialogues([learnt(number) for number in range(12)], path)
    return path


def test_a_better_model_is_promoted_and_the_report_tells_all(tmp_path: Path, dialogues: Path) -> None:
    base, output = models.saved_bart(tmp_path / "base"), tmp_path / "out"
    run = train([dialogues], output, base=str(base), settings=ENOUGH, generation=models.SHORT)
    assert run is not None
    assert run.promoted
    assert run.model == output
    assert run.verdict.tuned == 1.0
    assert run.verdict.base is not None
    assert run.verdict.base < 0.5
    written = json.loads((output / "training.json").read_text())
    assert written["verdict"]["tuned"] == 1.0
    assert written["conversations"] == {"train": 10, "dev": 1, "test": 1}
    assert written["evidence"] == {"given": 10}
    assert len(written["near_duplicates"]) == 2  # there are but two pairs
    assert [len(sha) for sha in written["data"].values()] == [64]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "dialogues.jsonl", "out"]


def test_a_worse_model_is_kept_beside_and_the_status_is_3(
    tmp_path: Path, dialogues: Path, trained_reader: Path
) -> None:
    """The base knows the answers by heart; so high a rate makes it forget them."""
    output = tmp_path / "out"
    spoil = ["--epochs", "1", "--set", "learning_rate=3", "--set", "warmup_steps=0", "--set", "batch_size=2"]
    command = ["train", str(dialogues), "-o", str(output), "--base", str(trained_reader), *spoil]
    done = CliRunner().invoke(cli, [*command, "--json"])
    assert done.exit_code == 3, done.stderr
    told = json.loads(done.stdout)
    assert told["promoted"] is False
    assert told["verdict"]["difference"][0] < 0
    assert not output.exists()
    assert (tmp_path / "out.not-promoted" / "rag_chat.json").is_file()
    assert str(tmp_path / "out.not-promoted") in done.stderr
    forced = CliRunner().invoke(cli, [*command, "--force"])
    assert forced.exit_code == 0, forced.stderr
    assert "the base won" in forced.stdout
    assert (output / "rag_chat.json").is_file()
    assert not (tmp_path / "out.not-promoted").exists()


def test_settings_of_the_base_are_kept_unless_set(
    tmp_path: Path, dialogues: Path, trained_reader: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def stop(*_: Any, generation: Any, **__: Any) -> None:
        seen.append(generation)
        raise TrainingError("enough", "seen")

    monkeypatch.setattr(training_run, "train", stop)
    command = ["train", str(dialogues), "-o", str(tmp_path / "out"), "--base", str(trained_reader)]
    CliRunner().invoke(cli, [*command, "--set", "fuse=decoder"])
    assert seen == [replace(models.SHORT, fuse="decoder")]
