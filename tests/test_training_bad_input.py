"""Whatever is in a file of dialogues: what cannot be used is reported, and the rest is trained on."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import models
from click.testing import CliRunner

from rag_chat.commands import cli
from rag_chat.config import GenerationSettings
from rag_chat.training.batches import tokenise
from rag_chat.training.examples import Example
from rag_chat.types import Message, Turn

LONG = "egg " * 100_000


def line(name: str, *contents: tuple[str, str]) -> str:
    return json.dumps({"id": name, "messages": [{"role": r, "content": c} for r, c in contents]})


def train(tmp_path: Path, lines: list[str], *more: str) -> Any:
    (tmp_path / "dialogues.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = ["train", str(tmp_path / "dialogues.jsonl"), "-o", str(tmp_path / "out"), "--arch", "ngram"]
    return CliRunner().invoke(cli, [*command, "--json", *more])


def test_broken_lines_and_one_sided_conversations_are_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    good = [line(f"good-{n}", ("user", f"Question {n}?"), ("assistant", f"Answer {n}.")) for n in range(8)]
    bad = [
        '{"id": "cut", "messages": [{"role": "user", "con',
        line("empty-turn", ("user", "Hm?"), ("assistant", "  ")),
        line("alone", ("user", "Is anybody there?"), ("user", "Hello?")),
        line("unasked", ("assistant", "Welcome!")),
        line("role", ("narrator", "Night falls.")),
        "\x00\x01",
        line("long", ("user", LONG), ("assistant", LONG)),
    ]
    done = train(tmp_path, [*good[:4], *bad, *good[4:]])
    assert done.exit_code == 0, done.stderr
    for number in (5, 6, 9, 10):
        assert f"dialogues.jsonl, line {number}:" in done.stderr, number
    assert "skipped alone: no reply" in done.stderr
    assert "skipped unasked: no reply" in done.stderr
    written = json.loads((tmp_path / "out" / "training.json").read_text())
    assert sum(written["conversations"].values()) == 9  # the good ones and the long one


def test_nothing_to_train_on_says_so(tmp_path: Path) -> None:
    done = train(tmp_path, ["{", line("alone", ("user", "Hello?"))])
    assert done.exit_code == 1
    assert "at least 3" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_turn_of_100k_tokens_is_cut_to_the_budget_in_seconds() -> None:
    tokenizer = models.wordpiece()
    passage = replace(models.EGGS, text=LONG)
    turn = Turn(LONG, (Message("user", LONG), Message("assistant", LONG)), (passage,))
    started = time.process_time()
    for fuse in ("concat", "decoder"):
        settings = GenerationSettings(input_tokens=48, answer_tokens=12, fuse=fuse)
        (row,) = tokenise([Example("d", turn, LONG)], tokenizer, settings, start=2)
        assert all(len(ids) <= 48 for ids in row["input_ids"])
        assert len(row["labels"]) <= 14
    assert time.process_time() - started < 60
