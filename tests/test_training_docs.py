"""The commands of docs/training.md are ones that the command line takes, and its example is one it reads."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest

from rag_chat.commands import cli
from rag_chat.corpus import read_sources
from rag_chat.training.examples import rewrite_examples, turn_examples
from rag_chat.types import Dialogue

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    rag-chat ((?:.*\\\n)*.*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_line_takes_it(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dialogues.jsonl").touch()
    (tmp_path / "corpora").symlink_to(ROOT / "corpora")
    command: click.Command = cli
    arguments = shlex.split(line.replace("\\\n", " "))
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), arguments.pop(0))
        assert found is not None
        command = found
    command.make_context("rag-chat", arguments)


def test_there_are_commands() -> None:
    assert sum(line.startswith("train") for line in COMMANDS) >= 5


def test_the_example_dialogue_teaches_what_the_page_says(tmp_path: Path) -> None:
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "d.jsonl").write_text(json.dumps(json.loads(example)) + "\n", encoding="utf-8")
    (dialogue,) = read_sources([tmp_path / "d.jsonl"])
    assert isinstance(dialogue, Dialogue)
    asked, more = turn_examples(dialogue)
    assert asked.sources == ("food/eggs.md",)
    assert more.target == "unanswerable"
    assert [e.target for e in rewrite_examples(dialogue)] == ["How long do I boil an egg until it is hard?"]
