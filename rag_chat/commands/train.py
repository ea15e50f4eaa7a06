"""`rag-chat train`: fine-tune the reader on dialogues."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rag_chat.commands.opening import resolve_model
from rag_chat.commands.options import FOLDER, json_option, key_values, option
from rag_chat.commands.printing import emit, note_skipped, say, table
from rag_chat.config import TrainingSettings, from_mapping
from rag_chat.errors import UsageError

if TYPE_CHECKING:
    from rag_chat.types import Skipped

_USUAL = TrainingSettings()
_OTHERS = ", ".join(f.name for f in fields(TrainingSettings) if f.name not in ("epochs", "max_minutes"))
_DIALOGUES = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("dialogues", type=_DIALOGUES, nargs=-1, required=True)
@option("-i", "--index", type=FOLDER, envvar="RAG_CHAT_INDEX", metavar="DIR",
        help="Where the evidence for each turn is searched.")  # fmt: skip
@option(
    "-o", "--output", type=FOLDER, required=True, metavar="MODEL", help="The folder of the trained model."
)
@option("--base", default="reader", show_default=True, metavar="MODEL", help="The model to start from.")
@option("--dev", type=_DIALOGUES, multiple=True, metavar="FILE",
        help="Dialogues to choose the best checkpoint by; by default some are held out.")  # fmt: skip
@option("--epochs", type=float, default=_USUAL.epochs, show_default=True)
@option("--max-minutes", type=float, default=_USUAL.max_minutes, show_default=True, help="0: no limit.")
@option("--set", "others", callback=key_values, multiple=True, metavar="NAME=VALUE",
        help=f"Any other setting: {_OTHERS}.")  # fmt: skip
@option("--resume", is_flag=True, help="Go on from the last checkpoint of a run that was stopped.")
@option("--force", is_flag=True, help="Replace a model that is there already.")
@json_option
def train(
    dialogues: Sequence[Path],
    index: Path | None,
    output: Path,
    base: str,
    dev: Sequence[Path],
    epochs: float,
    max_minutes: float,
    others: Mapping[str, str] | None,
    resume: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Fine-tune a model on dialogues, as it will be served."""
    if output.exists() and any(output.iterdir()) and not (force or resume):
        raise UsageError(f"{output} is there already.", "Name another folder, or replace it with --force.")
    given = {"epochs": epochs, "max_minutes": max_minutes, **(others or {})}
    settings = from_mapping(TrainingSettings, given)
    from rag_chat import training

    skipped: list[Skipped] = []
    with contextlib.redirect_stdout(sys.stderr):  # the trainer prints its progress
        report = training.train(
            dialogues,
            output,
            index=index,
            base=resolve_model(base),
            dev=dev,
            settings=settings,
            resume=resume,
            skipped=skipped,
        )
    note_skipped(skipped)
    if as_json:
        emit(asdict(report))
        return
    say(str(output))
    table(
        {name: value for name, value in asdict(report).items() if not isinstance(value, (list, tuple, dict))}
    )
