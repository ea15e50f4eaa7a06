"""`rag-chat eval` inside this process, on a tiny index, with the reader that needs no model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from rag_chat.commands import cli

if TYPE_CHECKING:
    from rag_chat.retrieval.index import Index

Eval = Callable[..., Result]


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RAG_CHAT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAG_CHAT_HOME", str(tmp_path / "home"))


def line(name: str, question: str, reply: str, source: str) -> str:
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": reply, "sources": [source]},
    ]
    return json.dumps({"id": name, "messages": messages})


@pytest.fixture
def dialogues(tmp_path: Path) -> Path:
    path = tmp_path / "held-out.jsonl"
    lines = [
        line("one", "How hot is the water for green tea?", "Steep green tea at 75 degrees.", "tea.md"),
        line("two", "When do cherry trees bloom in Kyoto?", "Cherry trees bloom in April.", "kyoto.md"),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def run(tiny_index: Index) -> Eval:
    def invoke(*args: object, status: int = 0) -> Result:
        common = ("-i", tiny_index.path, "--base", "extractive", "--arms", "base,gold")
        command = ["eval", *map(str, (*args, *common))]
        result = CliRunner().invoke(cli, command, catch_exceptions=False)
        assert result.exit_code == status, result.output
        return result

    return invoke


def test_a_report_is_written_and_printed(run: Eval, dialogues: Path, tmp_path: Path) -> None:
    printed = run(dialogues, "-o", tmp_path / "report").stdout
    assert "2 turns of 2 conversations" in printed
    report = read(tmp_path / "report" / "report.json")
    assert list(report["arms"]) == ["base", "gold"]
    assert report["verdict"] in printed
    assert report["retrieval"]["recall@20"] == [1.0, 1.0, 1.0]
    assert len((tmp_path / "report" / "turns.csv").read_text().splitlines()) == 1 + 4


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_json_is_the_report(run: Eval, dialogues: Path) -> None:
    assert json.loads(run(dialogues, "--json").stdout)["main"] == "base"


def test_a_score_below_the_gate_ends_with_status_3(run: Eval, dialogues: Path) -> None:
    assert "gate" not in run(dialogues, "--fail-under", "recall@20=1").stderr
    failed = run(dialogues, "--fail-under", "recall@20=1", "--fail-under", "f1=1.5", status=3)
    assert "gate: f1 is " in failed.stderr
    assert "below 1.5" in failed.stderr


def test_a_regression_ends_with_status_3(run: Eval, dialogues: Path, tmp_path: Path) -> None:
    run(dialogues, "-o", tmp_path)
    baseline = tmp_path / "report.json"
    run(dialogues, "--baseline", baseline, "--fail-on-regression")
    report = read(baseline)
    for turn in report["turns"]:
        turn["answers"]["base"]["f1"] = 2.0  # better than can be
    baseline.write_text(json.dumps(report))
    assert "f1 fell by" in run(dialogues, "--baseline", baseline, "--fail-on-regression", status=3).stderr
    assert "against the baseline: f1" in run(dialogues, "--baseline", baseline).stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--fail-on-regression"], "needs an earlier report"),
        (["-m", "extractive", "--arms", "tunned"], "there is no arm 'tunned'"),
        (["--fail-under", "recall5=1"], "Did you mean 'recall@5'"),
    ],
)
def test_wrong_use_says_what_is_right(dialogues: Path, tiny_index: Index, args: list[str], says: str) -> None:
    command = ["eval", str(dialogues), "-i", str(tiny_index.path), "--base", "extractive", *args]
    result = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert result.exit_code == 2
    assert says in result.stderr


def test_an_empty_test_set_is_refused(run: Eval, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    assert "There is nothing to evaluate" in run(tmp_path / "empty.jsonl", status=2).stderr


def test_tuned_needs_a_model(dialogues: Path, tiny_index: Index) -> None:
    command = ["eval", str(dialogues), "-i", str(tiny_index.path), "--arms", "tuned"]
    result = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert (result.exit_code, "Name it with -m" in result.stderr) == (2, True)
