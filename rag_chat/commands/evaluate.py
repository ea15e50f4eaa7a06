"""`rag-chat eval`: held-out dialogues put to one or more arms, or a BEIR set to the search alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from rag_chat.commands.opening import opened_index, resolve_model
from rag_chat.commands.options import (
    FILE,
    FOLDER,
    device_option,
    json_option,
    k_option,
    key_values,
    option,
    rerank_option,
)
from rag_chat.commands.printing import emit, json_line, note, note_skipped, say
from rag_chat.errors import UsageError

if TYPE_CHECKING:
    from rag_chat.types import Skipped

FELL_SHORT = 3
ARMS = ("tuned", "base", "no-retrieval", "gold", "extractive")
_INTERVALS = {"f1": "token F1", "f1_grounded": "  grounded turns", "exact_match": "exact match",
              "rouge_l": "ROUGE-L", "support": "sentences supported"}  # fmt: skip
_SHARES = {"bleu": "BLEU", "abstention_precision": "abstention precision", "abstention_recall": "  recall",
           "abstained_wrongly": "  without need"}  # fmt: skip


def _arms(context: click.Context, parameter: click.Parameter, given: str | None) -> list[str] | None:
    names = list(dict.fromkeys(name.strip() for name in given.split(","))) if given else None
    for name in names or ():
        if name not in ARMS:
            known = ", ".join(ARMS)
            raise click.BadParameter(f"there is no arm {name!r}; there are {known}.", context, parameter)
    return names


@click.command("eval")
@click.argument("dialogues", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@option("-i", "--index", "folder", type=FOLDER, envvar="RAG_CHAT_INDEX", metavar="DIR",
        help="The index to search; without one, that of a BEIR set is built for this run.")  # fmt: skip
@option("-m", "--model", envvar="RAG_CHAT_MODEL", metavar="MODEL",
        help="The tuned model, if there is one; by default the base is scored.")  # fmt: skip
@option("--base", default="reader", show_default=True, metavar="MODEL", help="What it was tuned from.")
@option("--arms", callback=_arms, metavar="LIST",
        help=f"Which of {','.join(ARMS)} to compare; by default all there are.")  # fmt: skip
@k_option
@option("-o", "--output", type=FOLDER, metavar="REPORT_DIR",
        help="Write report.html, report.json and turns.csv there.")  # fmt: skip
@option("--fail-under", callback=key_values, multiple=True, metavar="SCORE=LEAST",
        help="End with status 3 when a score is lower, e.g. recall@5=0.8; may be repeated.")  # fmt: skip
@option("--baseline", type=FILE, metavar="JSON", help="An earlier report.json to compare with.")
@option("--fail-on-regression", is_flag=True,
        help="End with status 3 when a score fell below the baseline's beyond chance.")  # fmt: skip
@rerank_option
@device_option
@json_option
def evaluate(
    dialogues: Sequence[Path],
    folder: Path | None,
    model: str | None,
    base: str,
    arms: Sequence[str] | None,
    k: int,
    output: Path | None,
    fail_under: Mapping[str, str] | None,
    baseline: Path | None,
    fail_on_regression: bool,
    rerank: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Score answers on held-out dialogues: every turn, with the history as it was written.

    A folder with corpus.jsonl, queries.jsonl and qrels (BEIR) scores the search alone.
    """
    if fail_on_regression and baseline is None:
        raise UsageError("--fail-on-regression needs an earlier report.", "Add --baseline report.json.")
    from rag_chat.evaluation.beir import is_beir
    from rag_chat.evaluation.gates import read_report

    earlier = read_report(baseline) if baseline else None
    if len(dialogues) == 1 and is_beir(dialogues[0]):
        report = _search_evaluated(dialogues[0], folder, rerank)
    elif folder is None:
        raise UsageError("There is no index to search.", "Name it with -i DIR.")
    else:
        report = evaluated(dialogues, folder, models_of(model, base, arms), k, rerank, device)
    if output is not None:
        write_report(report, output)
    if as_json:
        emit(report)
    else:
        _say_report(report)
    _gate(report, fail_under or {}, earlier, fail_on_regression)


def models_of(model: str | None, base: str, arms: Sequence[str] | None) -> dict[str, str]:
    """The model of each arm, the main one first."""
    main = "base" if model is None else "tuned"
    if model is None and arms and "tuned" in arms:
        raise UsageError("The arm 'tuned' needs a model.", "Name it with -m MODEL.")
    known = {"tuned": model, "base": base, "no-retrieval": model or base, "gold": model or base,
             "extractive": "extractive"}  # fmt: skip
    wanted = arms or [name for name in ARMS if known[name]]
    ordered = sorted(wanted, key=lambda name: (name != main, ARMS.index(name)))
    return {name: resolve_model(str(known[name])) for name in ordered}


def _search_evaluated(beir: Path, folder: Path | None, rerank: str | None) -> dict[str, Any]:
    from rag_chat.evaluation.beir import CORPUS, evaluate_beir, read_beir
    from rag_chat.retrieval.index import Index

    given = read_beir(beir)
    if folder is not None:
        with opened_index(folder, rerank) as index:
            return evaluate_beir(given, index)
    note(f"Building an index for this run; to keep one: rag-chat index build {beir / CORPUS} -o DIR")
    with TemporaryDirectory() as place:
        Index.build([beir / CORPUS], Path(place) / "index").close()
        with opened_index(Path(place) / "index", rerank) as index:
            return evaluate_beir(given, index)


def evaluated(
    dialogues: Sequence[Path],
    folder: Path,
    models: Mapping[str, str],
    k: int,
    rerank: str | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    from rag_chat.assistant import Assistant
    from rag_chat.evaluation.arms import Arm, Evidence
    from rag_chat.evaluation.cases import check_training
    from rag_chat.evaluation.report import report_json
    from rag_chat.evaluation.run import evaluate as run
    from rag_chat.training.run import read_dialogues

    skipped: list[Skipped] = []
    held_out = read_dialogues(dialogues, skipped)
    note_skipped(skipped)
    evidence: dict[str, Evidence] = {"no-retrieval": "none", "gold": "gold"}
    for model in dict.fromkeys(models.values()):
        check_training(held_out, model)
    with opened_index(folder, rerank, device) as index:
        loaded = {
            model: Assistant(index, model, k=k, device=device) for model in dict.fromkeys(models.values())
        }
        arms = {name: Arm(loaded[model], evidence.get(name, "retrieved")) for name, model in models.items()}
        return report_json(run(held_out, arms))


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write report.html, report.json and turns.csv."""
    from rag_chat.evaluation.page import page
    from rag_chat.evaluation.report import turns_csv

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json_line(report) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(page(report), encoding="utf-8")
    (folder / "turns.csv").write_text(turns_csv(report), encoding="utf-8")


def _gate(
    report: Mapping[str, Any],
    least: Mapping[str, str],
    earlier: Mapping[str, Any] | None,
    fail_on_regression: bool,
) -> None:
    """End with status 3 when a score is too low."""
    from rag_chat.evaluation.gates import changes, regressions, shortfalls

    failures = shortfalls(report, least)
    if earlier is not None:
        changed = changes(earlier, report)
        for name, interval in changed.items():
            note(f"against the baseline: {name:<12} {_shown(interval)}")
        failures += regressions(changed) if fail_on_regression else []
    for failure in failures:
        note(f"gate: {failure}")
    if failures:
        click.get_current_context().exit(FELL_SHORT)


def _say_report(report: Mapping[str, Any]) -> None:
    turns, conversations = len(report["turns"]), report["conversations"]
    of = f"{turns} turns of {conversations} conversations" if report["arms"] else f"{turns} queries"
    say(f"{of}; in percent, with 95% intervals")
    if report["retrieval"]:
        say(f"\nretrieval, {report['grounded']} grounded turns")
        for name, interval in report["retrieval"].items():
            say(f"  {name:<20} {_shown(interval)}")
    for name, arm in report["arms"].items():
        say(f"\n{name} ({arm['model']})")
        for line in _arm_lines(arm):
            say(f"  {line}")
    say(f"\n{report['verdict']}")


def _arm_lines(arm: Mapping[str, Any]) -> list[str]:
    lines = [f"{label:<20} {_shown(arm[name])}" for name, label in _INTERVALS.items() if arm[name]]
    shares = {label: arm[name] for name, label in _SHARES.items() if arm[name] is not None}
    lines += [f"{label:<20} {100 * share:5.1f}" for label, share in shares.items()]
    if latency := arm["latency_ms"]:
        lines.append(f"{'latency':<20} {latency['p50']:.0f} ms, 95th percentile {latency['p95']:.0f} ms")
    return lines


def _shown(interval: Sequence[float]) -> str:
    mean, low, high = (100 * value for value in interval)
    return f"{mean:5.1f} [{low:.1f}, {high:.1f}]"
