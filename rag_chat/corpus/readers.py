"""Files and folders in, documents and dialogues out; what cannot be read is reported."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NoReturn

from rag_chat.corpus.dialogues import read_chatterbot
from rag_chat.corpus.documents import (
    read_docx,
    read_html,
    read_markdown,
    read_pdf,
    read_plain,
)
from rag_chat.corpus.records import read_json, read_jsonl
from rag_chat.corpus.sources import Fault, LeftOut, Record, SourceFile, find_files, shown
from rag_chat.corpus.tables import check_columns, read_csv
from rag_chat.corpus.text import check
from rag_chat.errors import CorpusError, MissingExtra, UsageError
from rag_chat.types import Dialogue, Document, Skipped

OnError = Literal["skip", "fail"]

READERS: Mapping[str, Callable[[SourceFile], Iterator[Record]]] = {
    ".docx": read_docx,
    ".htm": read_html,
    ".html": read_html,
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".md": read_markdown,
    ".pdf": read_pdf,
    ".txt": read_plain,
    ".yaml": read_chatterbot,
    ".yml": read_chatterbot,
}
KNOWN = frozenset({*READERS, ".csv"})

logger = logging.getLogger(__name__)


def read_sources(
    sources: Sequence[str | Path],
    *,
    on_error: OnError = "skip",
    skipped: list[Skipped] | None = None,
    columns: Mapping[str, str] | None = None,
) -> Iterator[Document | Dialogue]:
    """Yield the documents and dialogues of files and folders, one at a time, in sorted order.

    A folder is walked without its hidden entries. A document's `source` is its path from the
    folder's own name on ("topics/food/pizza.md"), the file's name for a single file, and for a
    record in a file "<file>#<id or number>". Metadata always has a "topic". `columns` says what the
    columns of .csv files are (see `tables.read_csv`). What cannot be read is appended to `skipped`
    (or logged when there is no such list) and the rest goes on; with on_error="fail" it raises
    CorpusError or MissingExtra. Always raises CorpusError for a source that does not exist, and
    UsageError when two files have the same identity.
    """
    if on_error not in ("skip", "fail"):
        raise UsageError(f"on_error is 'skip' or 'fail', not {on_error!r}.", "Use one of them.")
    check_columns(columns)
    report = _Report(on_error, skipped)
    taken: dict[str, str] = {}
    for file in _files([sources] if isinstance(sources, str | Path) else sources, report):
        for line, item in _records(file, columns):
            fault = item if isinstance(item, Exception) else _objection(item, file, line, taken)
            if fault:
                report.add(file.path, fault.line or line if isinstance(fault, Fault) else 0, fault)
            elif not isinstance(item, Exception):
                yield item


class _Report:
    """Where everything goes that is not read."""

    def __init__(self, on_error: OnError, skipped: list[Skipped] | None) -> None:
        self.on_error = on_error
        self.skipped = skipped

    def add(self, path: Path, line: int, fault: Fault | MissingExtra) -> None:
        if self.on_error == "fail" and not isinstance(fault, LeftOut):
            _fail(path, line, fault)
        reason = fault.reason if isinstance(fault, Fault) else f"{fault.problem} {fault.fix}"
        if self.skipped is None:
            logger.warning("Skipped %s (line %d): %s", shown(path), line, reason)
        else:
            self.skipped.append(Skipped(shown(path), line, reason))


def _fail(path: Path, line: int, fault: Fault | MissingExtra) -> NoReturn:
    if isinstance(fault, MissingExtra):
        raise MissingExtra(f"{shown(path)} cannot be read: {fault.problem}", fault.fix) from fault
    where = f"{shown(path)}, line {line}" if line else shown(path)
    raise CorpusError(
        f"{where}: {fault.reason}.",
        "Mend it, or leave it out with --on-error skip (in Python: on_error='skip').",
    ) from fault


def _files(sources: Sequence[str | Path], report: _Report) -> list[SourceFile]:
    """Return the files to read, each once. Raises UsageError when two have the same identity."""
    chosen: dict[str, SourceFile] = {}
    real: set[Path] = set()
    for path, found in find_files(sources, KNOWN):
        if isinstance(found, Fault):
            report.add(path, 0, found)
            continue
        if (target := path.resolve()) in real:
            continue
        real.add(target)
        if other := chosen.get(found.identity):
            raise UsageError(
                f"{shown(other.path)} and {shown(path)} would both be known as {found.identity!r}.",
                "Rename one of them, or index the folder that holds both.",
            )
        chosen[found.identity] = found
    return list(chosen.values())


def _records(
    file: SourceFile, columns: Mapping[str, str] | None
) -> Iterator[Record | tuple[int, MissingExtra]]:
    """Yield what a file holds; whatever goes wrong with it is the last record."""
    suffix = file.path.suffix.lower()
    empty = True
    try:
        for record in read_csv(file, columns) if suffix == ".csv" else READERS[suffix](file):
            empty = False
            yield record
        if empty:
            yield 0, Fault("it holds nothing to read")
    except Fault as fault:
        yield fault.line, fault
    except MissingExtra as missing:
        yield 0, missing
    except OSError as error:
        yield 0, Fault(f"it cannot be read: {error.strerror or error}")
    except RecursionError:
        yield 0, Fault("it is nested too deeply")


def _objection(item: Document | Dialogue, file: SourceFile, line: int, taken: dict[str, str]) -> Fault | None:
    """Say why an item that was read cannot be used; note its identity in `taken` when it can."""
    identity = item.source if isinstance(item, Document) else item.id
    try:
        check(item)
    except Fault as fault:
        return fault
    if identity in taken:
        return Fault(f"the id {identity!r} is already taken by {taken[identity]}")
    taken[identity] = f"{shown(file.path)}, line {line}" if line else shown(file.path)
    return None
