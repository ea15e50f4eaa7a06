"""From the paths a user gives to the files to read, each with its identity and its topic."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rag_chat.errors import CorpusError, UsageError
from rag_chat.types import Dialogue, Document

HELD_OUT = ("dev.jsonl", "valid.jsonl", "test.jsonl")


class Fault(Exception):
    """Why a file, or one line of it (0: all of it), cannot be read; never leaves this package."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason, line)
        self.reason = reason
        self.line = line


class LeftOut(Fault):
    """A file passed over on purpose: always reported, never an error."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read; two files of one call never share an `identity`."""

    path: Path
    identity: str
    topic: str


Record = tuple[int, Document | Dialogue | Fault]
"""What one place of a file holds: its line (0: the whole file) and the value read, or why not."""


def find_files(
    sources: Sequence[str | Path], known: Container[str]
) -> Iterator[tuple[Path, SourceFile | Fault]]:
    """Yield each path below `sources` with the file to read there, or why there is none.

    `known` holds the suffixes that can be read. Raises CorpusError for a source that is not there.
    """
    for source in sources:
        if not str(source).strip():
            raise UsageError("A source is an empty path.", "Name a file or a folder.")
        path = Path(source)
        if _exists(path) and path.is_dir():
            yield from _walk(path, path, known)
        else:
            yield path, _single(path, known)


def _exists(path: Path) -> bool:
    try:
        found = path.exists()
    except OSError as error:
        raise CorpusError(
            f"{shown(path)} cannot be read: {error.strerror}.", "Check the rights of its folders."
        ) from error
    if not found:
        raise CorpusError(f"There is no file or folder {shown(path)}.", "Check the spelling of the path.")
    return True


def _single(path: Path, known: Container[str]) -> SourceFile | Fault:
    if not path.is_file():
        return Fault("not a regular file")
    if path.suffix.lower() not in known:
        return Fault(_unknown_type(path))
    return _named(path, path.name, path.parent.resolve().name)


def _walk(folder: Path, root: Path, known: Container[str]) -> Iterator[tuple[Path, SourceFile | Fault]]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        names = {entry.name for entry in entries}
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink():
                yield from _walk(entry, root, known)
            elif found := _judge(entry, root, names, known):
                yield entry, found
    except OSError as error:
        yield folder, Fault(f"the folder cannot be read: {error.strerror}")


def _judge(
    entry: Path, root: Path, names: Container[str], known: Container[str]
) -> SourceFile | Fault | None:
    """Say what to do with one entry of a folder that is no folder itself (None: nothing)."""
    if entry.is_symlink() and (objection := _link_objection(entry, root)):
        return objection
    if entry.is_dir():
        return None  # a link to a folder inside the source: its files are read in their own place
    if not entry.is_file():
        return LeftOut("not a regular file")
    if entry.name in HELD_OUT and "train.jsonl" in names:
        return LeftOut(
            "held-out conversations beside train.jsonl stay out of an index; "
            "name the file itself to include it"
        )
    if entry.suffix.lower() not in known:
        return LeftOut(_unknown_type(entry))
    identity = f"{_folder_name(root)}/{entry.relative_to(root).as_posix()}"
    return _named(entry, identity, identity.split("/")[-2])


def _link_objection(link: Path, root: Path) -> Fault | None:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle, before Python 3.13
        return Fault("a broken symbolic link")
    if not target.is_relative_to(root.resolve()):
        return LeftOut("a symbolic link that leads out of the folder")
    return None


def _named(path: Path, identity: str, topic: str) -> SourceFile | Fault:
    try:
        f"{identity}{topic}".encode()
    except UnicodeEncodeError:
        return Fault("its name is not valid UTF-8; rename it")
    return SourceFile(path, identity, topic)


def _folder_name(folder: Path) -> str:
    """Return the folder's real name, also for ".", ".." and a trailing slash."""
    return folder.name if folder.name not in ("", "..") else folder.resolve().name


def _unknown_type(path: Path) -> str:
    return f"unknown file type {path.suffix}" if path.suffix else "a file without a type suffix"


def shown(path: Path) -> str:
    """Return the path as the user gave it, in a form that can always be printed."""
    return os.fsencode(path).decode(errors="replace")
