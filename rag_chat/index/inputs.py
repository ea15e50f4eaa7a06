"""What a user gives to an index: paths and objects become items, each with where it came from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal, NamedTuple

from rag_chat.corpus import read_sources
from rag_chat.errors import CorpusError, UsageError
from rag_chat.types import Dialogue, Document, Kind, Skipped

Item = Document | Dialogue
Source = str | Path | Item
OnError = Literal["skip", "fail"]

OBJECTS = ""  # the origin of items that were given as objects


class Input(NamedTuple):
    """An item and its origin: the source it was read from, relative to the index folder."""

    origin: str
    item: Item


def read_inputs(
    sources: Sequence[Source],
    folder: Path,
    *,
    on_error: OnError,
    columns: Mapping[str, str] | None,
    skipped: list[Skipped],
) -> Iterable[Input]:
    """Return every item of `sources`; call `check_sources` first.

    With on_error="fail" everything is read before this returns. A folder inside another one that is
    given too is read only once.
    """
    inputs = _inputs(sources, folder, on_error, columns, skipped)
    return list(inputs) if on_error == "fail" else inputs


def _inputs(
    sources: Sequence[Source],
    folder: Path,
    on_error: OnError,
    columns: Mapping[str, str] | None,
    skipped: list[Skipped],
) -> Iterator[Input]:
    for source in sources:
        if isinstance(source, Document | Dialogue):
            yield Input(OBJECTS, source)
        elif not _inside_another(Path(source), sources):
            origin = origin_of(source, folder)
            for item in read_sources([source], on_error=on_error, skipped=skipped, columns=columns):
                yield Input(origin, item)


def check_sources(sources: Sequence[Source]) -> None:
    """Raise before anything is written: UsageError for no list, CorpusError for a missing path."""
    if isinstance(sources, str | Path | Document | Dialogue):
        raise UsageError("Sources are a list.", f"Put it in brackets: [{sources!r:.60}].")
    for source in sources:
        if not isinstance(source, Document | Dialogue) and not Path(source).exists():
            raise CorpusError(f"There is no file or folder {source}.", "Check the spelling of the path.")


def origin_of(source: str | Path, folder: Path) -> str:
    """Return the path of a source relative to the index folder, so that both can move together."""
    return Path(os.path.relpath(Path(source).resolve(), folder.resolve())).as_posix()


def in_scope(origin: str, scopes: Sequence[str]) -> bool:
    """Whether an origin is one of `scopes` or lies below one."""
    return any(origin == scope or (scope and origin.startswith(f"{scope}/")) for scope in scopes)


def identity_of(item: Item) -> str:
    return item.source if isinstance(item, Document) else item.id


def kind_of(item: Item) -> Kind:
    return "topic" if isinstance(item, Document) else "dialogue"


def fingerprint(item: Item) -> bytes:
    """Return the SHA-256 of everything an item says; raises UnicodeEncodeError for broken text."""
    content = {"kind": kind_of(item), **asdict(item)}
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, default=dict)
    return hashlib.sha256(text.encode()).digest()


def unreadable(source: str, skipped: Sequence[Skipped]) -> bool:
    """Whether the file of a document is among those that are there but could not be read."""
    file = source.partition("#")[0]
    return any(f"/{one.source}".endswith(f"/{file}") for one in skipped if not one.line)


def _inside_another(path: Path, sources: Sequence[Source]) -> bool:
    if not path.is_dir():
        return False
    others = [Path(one).resolve() for one in sources if isinstance(one, str | Path)]
    return any(other in path.resolve().parents for other in others)
