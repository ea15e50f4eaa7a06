"""`rag-chat train --part abstention`: fit when a trained model shall abstain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rag_chat.commands.printing import emit, note, note_skipped, say, table
from rag_chat.errors import UsageError


def fit_abstention(dialogues: Sequence[Path], index: Path | None, model: Path, *, as_json: bool) -> None:
    """Fit on set-aside conversations and keep it in the card of `model`; say how well it tells them apart."""
    if index is None:
        raise UsageError("Abstention is fitted on what an index finds.", "Name the index with -i DIR.")
    from rag_chat.retrieval.index import Index
    from rag_chat.training.abstention import calibrate
    from rag_chat.training.run import read_dialogues
    from rag_chat.types import Skipped

    skipped: list[Skipped] = []
    kept = read_dialogues(dialogues, skipped)
    note_skipped(skipped)
    with Index.open(index) as opened:
        fitted = calibrate(kept, opened, model)
    if as_json:
        emit(asdict(fitted))
        return
    say(str(model))
    table(
        {
            "turns": fitted.turns,
            "AUROC": "{:.3f} [{:.3f}, {:.3f}]".format(*fitted.auroc),
            "threshold": "none" if fitted.threshold is None else f"{fitted.threshold:.3f}",
            "answers at 90% precision": f"{fitted.coverage_at(0.9):.0%} of turns",
        }
    )
    if fitted.threshold is None:
        note("The turns to answer and those to abstain from do not separate: no threshold was set.")
