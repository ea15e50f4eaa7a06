"""`rag-chat train`: fine-tune the reader on dialogues."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rag_chat.commands.calibrating import fit_abstention
from rag_chat.commands.opening import resolve_model
from rag_chat.commands.options import FOLDER, json_option, key_values, option
from rag_chat.commands.printing import emit, note, note_skipped, say, table
from rag_chat.config import GenerationSettings, TrainingSettings, from_mapping
from rag_chat.errors import UsageError
from rag_chat.generation.classic import ARCHS, Arch

if TYPE_CHECKING:
    from rag_chat.training.report import Run
    from rag_chat.types import Skipped

_USUAL = TrainingSettings()
_OTHERS = ", ".join(
    f.name
    for f in (*fields(TrainingSettings), *fields(GenerationSettings))
    if f.name not in ("epochs", "max_minutes", "lora_rank")
)
_UNUSED = {
    "reader": (),
    "embedder": ("base", "arch", "lora", "max_minutes", "resume"),
    "abstention": (
        "base",
        "arch",
        "dev",
        "test",
        "lora",
        "epochs",
        "max_minutes",
        "others",
        "resume",
        "force",
    ),
}
"""The options that do not apply to each part."""
_LORA_RANK = 16
_NEW_LEARNING_RATE = 1e-3  # for weights that start at random
_FELL_SHORT = 3
_DIALOGUES = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("dialogues", type=_DIALOGUES, nargs=-1, required=True)
@option("--part", type=click.Choice(list(_UNUSED)), default="reader", show_default=True,
        help="What to train; embedder: that of the index; abstention: when MODEL shall abstain, by set-aside "
             "DIALOGUES.")  # fmt: skip
@option("-i", "--index", type=FOLDER, envvar="RAG_CHAT_INDEX", metavar="DIR",
        help="Where the evidence for each turn is searched.")  # fmt: skip
@option(
    "-o", "--output", type=FOLDER, required=True, metavar="MODEL", help="The folder of the trained model."
)
@option("--base", default="reader", show_default=True, metavar="MODEL", help="The model to start from.")
@option("--arch", type=click.Choice(ARCHS), default=ARCHS[0], show_default=True,
        help="A new classic model to compare with; rnn and cnn use the words of --base.")  # fmt: skip
@option("--dev", type=_DIALOGUES, multiple=True, metavar="FILE",
        help="Dialogues to choose the best checkpoint by; by default some are held out.")  # fmt: skip
@option("--test", type=_DIALOGUES, multiple=True, metavar="FILE",
        help="Dialogues for the verdict; by default some are held out, or --dev serves again.")  # fmt: skip
@option("--lora", is_flag=True, help=f"Train low-rank updates of rank {_LORA_RANK}, not all weights.")
@option("--epochs", type=float, default=_USUAL.epochs, show_default=True)
@option("--max-minutes", type=float, default=_USUAL.max_minutes, show_default=True, help="0: no limit.")
@option("--set", "others", callback=key_values, multiple=True, metavar="NAME=VALUE",
        help=f"Any other setting: {_OTHERS}.")  # fmt: skip
@option("--resume", is_flag=True, help="Go on from the last checkpoint of a run that was stopped.")
@option("--force", is_flag=True, help="Replace a model that is there already, even by a worse one.")
@json_option
def train(
    dialogues: Sequence[Path],
    part: str,
    index: Path | None,
    output: Path,
    base: str,
    arch: Arch,
    dev: Sequence[Path],
    test: Sequence[Path],
    lora: bool,
    epochs: float,
    max_minutes: float,
    others: Mapping[str, str] | None,
    resume: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Fine-tune a model on dialogues, as it will be served.

    The base and the tuned model answer held-out conversations. A tuned model that does worse is put beside
    MODEL, not in its place, and the exit status is 3. Several GPUs: torchrun --nproc_per_node N --no-python
    rag-chat train ...
    """
    _refuse_unused(part)
    if part == "abstention":
        fit_abstention(dialogues, index, output, as_json=as_json)
        return
    if output.exists() and any(output.iterdir()) and not (force or resume):
        raise UsageError(f"{output} is there already.", "Name another folder, or replace it with --force.")
    base, given = resolve_model(base), dict[str, Any](others or {})
    from rag_chat.training import run

    given |= {"epochs": epochs, "max_minutes": max_minutes, "lora_rank": _LORA_RANK if lora else 0}
    skipped: list[Skipped] = []
    _show_progress()
    if part == "embedder":
        embedder = _embedder(dialogues, output, index, [*dev, *test], given, force, skipped)
        _tell(embedder, output, skipped, as_json)
        return
    served = {f.name: given.pop(f.name) for f in fields(GenerationSettings) if f.name in given}
    if arch in ("rnn", "cnn"):
        given.setdefault("learning_rate", _NEW_LEARNING_RATE)
    with contextlib.redirect_stdout(sys.stderr):  # the trainer prints its progress
        report = run.train(
            dialogues,
            output,
            index=index,
            base=base,
            arch=arch,
            dev=dev,
            test=test,
            settings=from_mapping(TrainingSettings, given),
            generation=from_mapping(GenerationSettings, {**asdict(run.served_as(base)), **served}),
            resume=resume,
            force=force,
            skipped=skipped,
        )
    if report is None:  # the first process tells
        return
    _tell(report, output, skipped, as_json)


def _refuse_unused(part: str) -> None:
    """Refuse what was given on the command line and would be ignored."""
    context = click.get_current_context()
    unused = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in _UNUSED[part]
        and context.get_parameter_source(parameter.name) == ParameterSource.COMMANDLINE
    ]
    if unused:
        raise UsageError(f"--part {part} has no use for {', '.join(unused)}.", "Leave that out.")


def _embedder(
    dialogues: Sequence[Path],
    output: Path,
    index: Path | None,
    held_out: Sequence[Path],
    given: Mapping[str, Any],
    force: bool,
    skipped: list[Skipped],
) -> Run:
    from rag_chat.training.embedder import LEARNING_RATE, train_embedder

    if index is None:
        raise UsageError("The embedder to train is that of an index.", "Name it with -i DIR.")
    settings = from_mapping(TrainingSettings, {"learning_rate": LEARNING_RATE, **given})
    return train_embedder(
        dialogues, output, index=index, dev=held_out, settings=settings, force=force, skipped=skipped
    )


def _tell(report: Run, output: Path, skipped: Sequence[Skipped], as_json: bool) -> None:
    note_skipped(skipped)
    if as_json:
        emit(json.loads(json.dumps(asdict(report), default=str)))
    else:
        _say(report)
    if not report.promoted:
        note(f"{output} was left as it was. The tuned model is in {report.model}; --force puts it in place.")
        click.get_current_context().exit(_FELL_SHORT)


def _show_progress() -> None:
    """Let the log tell how far training is where no bar can."""
    if not sys.stderr.isatty():
        logging.getLogger("rag_chat.training").setLevel(logging.INFO)


def _say(report: Run) -> None:
    say(str(report.model))
    say(str(report.verdict))
    if report.training is not None:
        told = asdict(report.training)
        table({name: value for name, value in told.items() if not isinstance(value, (list, tuple))})
