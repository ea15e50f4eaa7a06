"""The embedder learns from dialogues which passages answer, and is accepted only when recall rises."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import tiny_documents

from rag_chat.commands import cli
from rag_chat.config import TrainingSettings
from rag_chat.corpus.writing import write_dialogues
from rag_chat.errors import TrainingError
from rag_chat.index.sentence_transformer import SentenceTransformerEmbedder
from rag_chat.retrieval.index import Index
from rag_chat.training.embedder import mine, train_embedder
from rag_chat.types import Dialogue, Message

# Words that no passage holds: only training can tell where they lead.
ASKED = {
    "food/eggs": "breakfast",
    "food/tea": "leaves",
    "sports/golf": "clubs",
    "sports/rowing": "boats",
    "travel/kyoto": "shrines",
    "travel/trains": "railways",
}
SETTINGS = TrainingSettings(epochs=30, batch_size=6, learning_rate=3e-3, warmup_steps=2, passages=1, seed=1)


def conversations(times: int) -> list[Dialogue]:
    return [
        Dialogue(
            f"{times}-{n}-{name}",
            (
                Message("user", f"Tell me everything concerning {word} {word} please"),
                Message("assistant", "Yes.", sources=(f"{name}.md",)),
            ),
        )
        for n in range(times)
        for name, word in ASKED.items()
    ]


def write(path: Path, times: int) -> Path:
    write_dialogues(conversations(times), path)
    return path


def test_hard_negatives_are_near_and_no_answer(tiny_index: Index) -> None:
    triples = mine(conversations(1), tiny_index, random.Random(0))
    assert triples == mine(conversations(1), tiny_index, random.Random(0))
    texts = {passage.search_text: passage for passage in tiny_index.passages()}
    for triple in triples:
        assert texts[triple.negative].source != texts[triple.positive].source
        assert texts[triple.negative].kind == "topic"


def test_a_better_embedder_is_accepted_and_builds_an_index(tiny_index: Index, tmp_path: Path) -> None:
    train, held_out = write(tmp_path / "train.jsonl", 2), write(tmp_path / "dev.jsonl", 3)
    run = train_embedder(
        [train], tmp_path / "tuned", index=tiny_index.path, dev=[held_out], settings=SETTINGS
    )
    assert run.promoted, str(run.verdict)
    assert run.verdict.base is not None
    assert run.verdict.tuned > run.verdict.base
    tuned = SentenceTransformerEmbedder(tmp_path / "tuned")
    with Index.build(tiny_documents(), tmp_path / "index", embedder=tuned) as index:
        (hit,) = index.search("Tell me everything concerning boats boats please", 1, mode="dense")
        assert hit.passage.source == "sports/rowing.md"


def test_recall_that_does_not_rise_is_not_accepted(tiny_index: Index, tmp_path: Path) -> None:
    train, held_out = write(tmp_path / "train.jsonl", 1), write(tmp_path / "dev.jsonl", 2)
    done = CliRunner().invoke(
        cli,
        ["train", str(train), "-o", str(tmp_path / "tuned"), "-i", str(tiny_index.path),
         "--dev", str(held_out), "--part", "embedder", "--epochs", "1", "--set", "learning_rate=0"],
    )  # fmt: skip
    assert done.exit_code == 3, done.stderr
    assert not (tmp_path / "tuned").exists()
    assert (tmp_path / "tuned.not-promoted" / "modules.json").is_file()
    assert "neither won" in done.stdout


def test_turns_without_sources_teach_it_nothing(tiny_index: Index, tmp_path: Path) -> None:
    plain = [Dialogue(str(i), (Message("user", "Hi"), Message("assistant", "Hello"))) for i in range(9)]
    write_dialogues(plain, tmp_path / "plain.jsonl")
    with pytest.raises(TrainingError, match="name a source"):
        train_embedder([tmp_path / "plain.jsonl"], tmp_path / "tuned", index=tiny_index.path)
