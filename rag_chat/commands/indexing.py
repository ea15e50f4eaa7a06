"""`rag-chat index`: build, change and check indexes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import click

from rag_chat.commands.options import FOLDER, embedder_option, json_option, key_values, option
from rag_chat.commands.printing import emit, note, note_skipped, say, table
from rag_chat.config import PACKAGED_EMBEDDER, IndexSettings, IndexType
from rag_chat.errors import CorpusError
from rag_chat.types import Precision

if TYPE_CHECKING:
    from rag_chat.index.ingest import IndexReport
    from rag_chat.index.inputs import OnError

_USUAL = IndexSettings()

_folder = click.argument("folder", type=FOLDER, metavar="DIR")
_sources = click.argument(
    "sources", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="SRC..."
)
_on_error = option(
    "--on-error", type=click.Choice(["skip", "fail"]), default="skip", show_default=True,
    help="What to do with a file or line that cannot be read.",
)  # fmt: skip
_columns = option(
    "--columns", callback=key_values, metavar="text=body,title=name",
    help="Which columns of a CSV file hold what.",
)  # fmt: skip


@click.group()
def index() -> None:
    """Build, change and check indexes."""


@index.command()
@_sources
@option("-o", "--output", "folder", type=FOLDER, required=True, envvar="RAG_CHAT_INDEX", metavar="DIR",
        help="The folder of the index.")  # fmt: skip
@embedder_option
@option("--chunk-tokens", type=int, default=_USUAL.chunk_tokens, show_default=True, metavar="N",
        help="The longest passage, in tokens of the embedder.")  # fmt: skip
@option("--overlap", type=int, default=_USUAL.overlap, show_default=True, metavar="N",
        help="Tokens that neighbouring passages share.")  # fmt: skip
@option("--index-type", type=click.Choice(get_args(IndexType)), default=_USUAL.index_type, show_default=True,
        help="How FAISS searches; auto is exact up to 200,000 passages, then tuned to --recall.")  # fmt: skip
@option("--recall", type=float, default=_USUAL.recall, show_default=True, metavar="R",
        help="The share of the nearest ten that an approximate index must find.")  # fmt: skip
@option("--embed-precision", "precision", type=click.Choice(get_args(Precision)),
        default=_USUAL.embed_precision, show_default=True, envvar="RAG_CHAT_EMBED_PRECISION",
        help="fp32 is exact; int8 takes 3/4 of its time and changes about 1 in 15 of the nearest ten; "
        "bf16 needs a GPU or a CPU that has it.")  # fmt: skip
@_on_error
@_columns
@json_option
def build(
    sources: Sequence[Path],
    folder: Path,
    embedder: str | None,
    chunk_tokens: int,
    overlap: int,
    index_type: IndexType,
    recall: float,
    precision: Precision,
    on_error: OnError,
    columns: Mapping[str, str] | None,
    as_json: bool,
) -> None:
    """Make DIR the index of exactly these files and folders."""
    settings = IndexSettings(
        embedder=embedder or PACKAGED_EMBEDDER,
        chunk_tokens=chunk_tokens,
        overlap=overlap,
        index_type=index_type,
        recall=recall,
        embed_precision=precision,
    )
    from rag_chat.retrieval.index import Index

    with Index.build(
        sources, folder, settings=settings, on_error=on_error, columns=columns, progress=sys.stderr.isatty()
    ) as built:
        assert built.report is not None
        _say_report(folder, built.report, as_json)
    _check_something_read(sources, built.report)
    note(f"Ask it: rag-chat ask 'QUESTION' -i {folder}")


@index.command()
@_folder
@_sources
@_on_error
@_columns
@json_option
def add(
    folder: Path,
    sources: Sequence[Path],
    on_error: OnError,
    columns: Mapping[str, str] | None,
    as_json: bool,
) -> None:
    """Add what is new in these sources and replace what changed."""
    report = _take("add", folder, sources, on_error, columns, as_json)
    _check_something_read(sources, report)


@index.command()
@_folder
@_sources
@_on_error
@_columns
@json_option
def sync(
    folder: Path,
    sources: Sequence[Path],
    on_error: OnError,
    columns: Mapping[str, str] | None,
    as_json: bool,
) -> None:
    """Add what is new in these sources, and remove what is gone from them."""
    report = _take("sync", folder, sources, on_error, columns, as_json)
    if report.skipped:  # otherwise the sources may be empty: everything is gone from them
        _check_something_read(sources, report)


def _take(
    how: Literal["add", "sync"],
    folder: Path,
    sources: Sequence[Path],
    on_error: OnError,
    columns: Mapping[str, str] | None,
    as_json: bool,
) -> IndexReport:
    from rag_chat.retrieval.index import Index

    with Index.open(folder) as opened:
        take = opened.add if how == "add" else opened.sync
        report = take(sources, on_error=on_error, columns=columns, progress=sys.stderr.isatty())
    _say_report(folder, report, as_json)
    return report


@index.command()
@_folder
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@json_option
def rm(folder: Path, names: Sequence[str], as_json: bool) -> None:
    """Remove documents by name, by file ("a.jsonl") or by folder ("topics/"); dialogues by id."""
    from rag_chat.retrieval.index import Index

    with Index.open(folder) as opened:
        before = opened.store.sources()
        report = opened.remove(names)
        gone = [name for name in before if not opened.has_source(name)]
    if not as_json:
        for name in gone:
            say(f"removed {name}")
    _say_report(folder, report, as_json)
    if not report.removed:
        raise CorpusError("Nothing was removed.", f"See the names: rag-chat search {folder} QUERY")


@index.command()
@_folder
@json_option
def info(folder: Path, as_json: bool) -> None:
    """Say what an index holds and what it was built with."""
    from rag_chat.retrieval.index import Index

    with Index.open(folder) as opened:
        _say_info(opened.info(), as_json)


@index.command()
@_folder
@json_option
def verify(folder: Path, as_json: bool) -> None:
    """Check everything that is stored against everything it must agree with."""
    from rag_chat.retrieval.index import Index

    with Index.open(folder) as opened:
        checked = opened.verify()
    if as_json:
        emit({"ok": True, "checked": checked})
        return
    for line in checked:
        say(f"ok  {line}")


@index.command()
@_folder
@option("--embedder", metavar="M", help="Embed every passage anew with this one.")
@json_option
def rebuild(folder: Path, embedder: str | None, as_json: bool) -> None:
    """Make what is derived again from what is stored: the lexical table and the FAISS file."""
    from rag_chat.retrieval.index import Index

    with Index.open(folder) as opened:
        opened.rebuild(embedder=embedder)
        _say_info(opened.info(), as_json)


def _say_info(facts: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        emit(facts)
    else:
        table(facts)


def _say_report(folder: Path, report: IndexReport, as_json: bool) -> None:
    note_skipped(report.skipped)
    if as_json:
        emit(asdict(report))
        return
    say(
        f"{folder}: {report.added} added, {report.updated} updated, {report.unchanged} unchanged, "
        f"{report.removed} removed, {len(report.skipped)} skipped; "
        f"{report.passages} passages, {report.seconds:.1f} s"
    )


def _check_something_read(sources: Sequence[Path], report: IndexReport) -> None:
    if not report.added + report.updated + report.unchanged:
        raise CorpusError(
            f"Nothing could be read from {', '.join(map(str, sources))}.",
            "Give .txt .md .html .pdf .docx .csv .jsonl files, or folders of them.",
        )
