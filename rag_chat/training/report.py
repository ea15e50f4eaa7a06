"""What a training run did, written beside the model: training.json and the curve as a picture."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_chat.training.duplicates import NearDuplicate
from rag_chat.training.verdict import Verdict

REPORT, CURVE = "training.json", "curve.png"

Points = tuple[tuple[int, float], ...]
"""(step, value) pairs."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a training run did.

    `examples` counts those seen, with repetition; `seconds` and `examples_per_second` include the dev
    scores. `curve` is the dev F1 in [0, 1], `losses` and `dev_losses` are nats a token; each a (step,
    value) pair. `precision` is that of matrix products.
    """

    examples: int
    seconds: float
    examples_per_second: float
    device: str
    processes: int
    precision: str
    parameters: int
    trained_parameters: int
    losses: Points
    dev_losses: Points = ()
    curve: Points = ()
    best_f1: float | None = None
    best_step: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A training run from end to end: where its model is, whether it was promoted, and who won."""

    model: Path
    promoted: bool
    verdict: Verdict
    training: TrainingReport | None
    evidence: Mapping[str, int]
    near_duplicates: tuple[NearDuplicate, ...]


def data_hashes(paths: Sequence[Path]) -> dict[str, str]:
    """The SHA-256 of each file, those within folders too."""
    files = [
        file
        for path in paths
        for file in ([path] if path.is_file() else sorted(path.rglob("*")))
        if file.is_file()
    ]
    return {str(file): _sha256(file) for file in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_report(folder: Path, facts: Mapping[str, Any], report: TrainingReport) -> None:
    """Write training.json and curve.png into the folder of a model."""
    write_facts(folder, {**facts, "report": dataclasses.asdict(report)})
    draw(report, folder / CURVE)


def add_verdict(folder: Path, verdict: Verdict) -> None:
    """Add the verdict to the training.json of a model."""
    known = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    write_facts(folder, {**known, "verdict": dataclasses.asdict(verdict)})


def write_facts(folder: Path, content: Mapping[str, Any]) -> None:
    """Write training.json alone."""
    (folder / REPORT).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def draw(report: TrainingReport, path: Path) -> None:
    """Draw the losses and the dev F1 over the steps. Needs the extra `train`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(xlabel="step", ylabel="loss (nats a token)")
    for points, label in ((report.losses, "training loss"), (report.dev_losses, "dev loss")):
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 3 else "")
    other = axes.twinx()
    other.set(ylabel="dev token F1", ylim=(0, 1))
    if report.curve:
        other.plot(*zip(*report.curve, strict=True), color="tab:green", marker="o", label="dev token F1")
    figure.legend(loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=120)
