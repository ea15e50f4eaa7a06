"""Text from files nobody has checked: whole or line by line, within limits, exact otherwise."""

from __future__ import annotations

import codecs
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from rag_chat.corpus.sources import Fault
from rag_chat.types import Dialogue, Document, Metadata, Scalar

MAX_FILE_BYTES = 200 * 1024 * 1024  # for formats read whole; those read by line have no limit
MAX_LINE_BYTES = 1_000_000  # a novel is about this long: a longer line is data, not language


def read_bytes(path: Path) -> bytes:
    """Return the content of a file that is read whole. Raises Fault if it is empty or too large."""
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise Fault(f"larger than {MAX_FILE_BYTES // 2**20} MB ({size // 2**20} MB); split it")
    if not (raw := path.read_bytes()):
        raise Fault("the file is empty")
    return raw


def read_text(path: Path, *, limit_lines: bool = True) -> str:
    """Return the text of a file: without byte order mark, CRLF as LF, exact in all else.

    Raises Fault with the line when it is not clean UTF-8 or when a line is over-long.
    """
    text = decode(read_bytes(path))
    if limit_lines:
        _check_lines(text)
    return text


def _check_lines(text: str) -> None:
    for match in re.finditer(r"[^\n]+", text):
        if match.end() - match.start() > MAX_LINE_BYTES:
            raise _over_long(text.count("\n", 0, match.start()) + 1)


def read_lines(path: Path) -> Iterator[tuple[int, str | Fault]]:
    """Yield (line number from 1, line without its end), holding one line in memory at a time."""
    with path.open("rb") as handle:
        for number in itertools.count(1):
            if not (raw := handle.readline(MAX_LINE_BYTES + 1)):
                return
            if number == 1:
                _check_encoding(raw)
            if len(raw) > MAX_LINE_BYTES and not raw.endswith(b"\n"):
                _finish_line(handle)
                yield number, _over_long(number)
            else:
                yield number, _line(raw, number)


def _line(raw: bytes, number: int) -> str | Fault:
    try:
        return decode(raw).rstrip("\n")
    except Fault as fault:
        return Fault(fault.reason, number)


def _finish_line(handle: IO[bytes]) -> None:
    while (rest := handle.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
        pass


def _over_long(line: int) -> Fault:
    return Fault(f"a line longer than {MAX_LINE_BYTES // 1_000_000} MB", line)


def decode(raw: bytes) -> str:
    """Decode UTF-8 strictly. Raises Fault naming the byte and its line, counted within `raw`."""
    _check_encoding(raw)
    if (nul := raw.find(b"\0")) >= 0:
        raise Fault(f"a NUL byte at byte {nul}: not a text file?", raw.count(b"\n", 0, nul) + 1)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Fault(f"not valid UTF-8 at byte {error.start}; save it as UTF-8", line) from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def _check_encoding(raw: bytes) -> None:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Fault("encoded as UTF-16; save it as UTF-8")


def parse_json(text: str) -> Any:
    """Parse JSON. Raises Fault for what is not JSON or nested deeper than the parser goes."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise Fault(f"not valid JSON: {error.msg} at character {error.pos + 1}") from None
    except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits
        raise Fault(f"not readable as JSON: {error}") from None


def flatten(values: Mapping[Any, Any], prefix: str = "") -> dict[str, Scalar]:
    """Return the scalars of a nested mapping under dotted names.

    Lists of scalars are joined with ", "; nulls and lists of anything else are left out. Raises
    Fault for a number that is not finite.
    """
    flat: dict[str, Scalar] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
            flat[f"{prefix}{key}"] = ", ".join(map(str, value))
        elif isinstance(value, float) and not math.isfinite(value):
            raise Fault(f"{prefix}{key} is not a finite number")
        elif isinstance(value, str | int | float):
            flat[f"{prefix}{key}"] = value
    return flat


def with_topic(metadata: Metadata, topic: str) -> dict[str, Scalar]:
    """Return the metadata with its own topic or category as "topic", or else the one given."""
    return {**metadata, "topic": metadata.get("topic") or metadata.get("category") or topic}


def readable(stem: str) -> str:
    """Turn a file's stem into a title: "neapolitan-pizza" reads "Neapolitan pizza"."""
    words = " ".join(re.split(r"[-_\s]+", stem)).strip()
    return words[:1].upper() + words[1:]


def check(item: Document | Dialogue) -> None:
    """Raise Fault when an item holds no text, or characters that no file or database can keep."""
    if isinstance(item, Document) and not item.text.strip():
        raise Fault("it holds no text")
    for text in _strings(item):
        if "\0" in text:
            raise Fault("it holds a NUL character")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Fault(f"half of a surrogate pair at character {error.start}") from None


def _strings(item: Document | Dialogue) -> Iterator[str]:
    for key, value in item.metadata.items():
        yield from (key, str(value))
    if isinstance(item, Document):
        yield from (item.source, item.title, item.text)
        return
    yield from (item.id, item.topic)
    for message in item.messages:
        yield from (message.content, message.rewrite, *message.sources)
        for passage in message.passages:
            yield from (passage.title, passage.text)
