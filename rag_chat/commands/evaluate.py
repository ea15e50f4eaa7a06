"""`rag-chat eval`: held-out dialogues put to one or more models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rag_chat.commands.opening import resolve_model
from rag_chat.commands.options import FOLDER, device_option, index_option, json_option, k_option, option
from rag_chat.commands.printing import emit, json_line, note_skipped, say

if TYPE_CHECKING:
    from rag_chat.evaluation.run import ArmReport, EvalReport, Interval
    from rag_chat.types import Skipped


@click.command("eval")
@click.argument("dialogues", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@index_option
@option("-m", "--model", "models", multiple=True, default=("extractive", "reader"), show_default=True,
        envvar="RAG_CHAT_MODEL", metavar="MODEL",
        help="A model to score; give it again to compare the others with the first.")  # fmt: skip
@k_option
@option("-o", "--output", type=FOLDER, metavar="REPORT_DIR", help="Write report.json there, too.")
@device_option
@json_option
def evaluate(
    dialogues: Sequence[Path],
    folder: Path,
    models: Sequence[str],
    k: int,
    output: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Score models on held-out dialogues: every turn, with the history as it was written."""
    from rag_chat.assistant import Assistant
    from rag_chat.evaluation.run import evaluate as run
    from rag_chat.retrieval.index import Index
    from rag_chat.training.run import read_dialogues

    skipped: list[Skipped] = []
    held_out = read_dialogues(dialogues, skipped)
    note_skipped(skipped)
    with Index.open(folder) as index:
        arms = {name: Assistant(index, resolve_model(name), k=k, device=device) for name in models}
        report = run(held_out, arms)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / "report.json").write_text(json_line(asdict(report)) + "\n", encoding="utf-8")
    if as_json:
        emit(asdict(report))
    else:
        _say_report(report)


def _say_report(report: EvalReport) -> None:
    say(f"{report.turns} turns of {report.dialogues} conversations, means with 95% intervals")
    say(f"the document was among the {report.k} passages in {report.recall:.0%} of grounded turns")
    for name, arm in report.arms.items():
        say(f"\n{name}")
        for line in _arm_lines(arm):
            say(f"  {line}")


def _arm_lines(arm: ArmReport) -> list[str]:
    return [
        f"token F1            {_shown(arm.f1)}",
        f"  grounded turns    {_shown(arm.f1_grounded)}",
        f"  against the first {_shown(arm.against_first)}",
        f"exact match         {_shown(arm.exact_match)}",
        f"abstained           {arm.abstained_rightly:.0%} of turns without an answer, "
        f"{arm.abstained_wrongly:.0%} of the others",
        f"answers cited       {arm.cited:.0%}",
    ]


def _shown(interval: Interval) -> str:
    mean, low, high = (100 * value for value in interval)
    return f"{mean:5.1f} [{low:.1f}, {high:.1f}]"
