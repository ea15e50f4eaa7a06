"""`rag-chat ask --batch`: a file of questions in, a file of answers out, resumable line by line."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_chat.commands.printing import emit, json_line, note
from rag_chat.conversation.writing import answer_json
from rag_chat.errors import CorpusError, UsageError

if TYPE_CHECKING:
    from rag_chat.assistant import Assistant, Request
    from rag_chat.types import Message, Passage

BATCH_SIZE = 16  # as many turns as the reader generates at once

_ROLES = ("user", "assistant", "system")
_BEGINNING = b'{"id": '  # of every line that is written here

Line = tuple[str | int, "Request"]


class BadLine(Exception):
    """Why a line cannot be answered; never leaves this module."""


def answer_file(
    bot: Assistant, questions: Path, answers: Path, *, filter: Mapping[str, str] | None, as_json: bool
) -> None:
    """Answer every line of `questions` that has no answer in `answers` yet; answers are appended.

    Raises UsageError when `answers` holds something else, and CorpusError at the end when lines could
    not be read.
    """
    if answers.exists() and answers.samefile(questions):
        raise UsageError(f"{questions} cannot be its own output.", "Name another file with -o.")
    done = _answered(answers)
    bad: list[dict[str, Any]] = []
    already, written = len(done), 0
    with answers.open("a", encoding="utf-8") as file, _progress(questions, already) as bar:
        todo = _to_do(questions, done, bad)
        while batch := list(itertools.islice(todo, BATCH_SIZE)):
            answered = bot.answer([request for _, request in batch], filter=filter)
            for (name, _), answer in zip(batch, answered, strict=True):
                file.write(json_line({"id": name, **answer_json(answer)}) + "\n")
                file.flush()
                written += 1
                bar.update(1)
    note(f"{answers}: {written} answered, {already} answered before, {len(bad)} skipped")
    if as_json:
        emit({"answered": written, "answered_before": already, "skipped": bad})
    if bad:
        raise CorpusError(
            f"{len(bad)} lines of {questions} could not be read.",
            "Mend them and run it again: what is answered stays.",
        )


def parse_line(text: str) -> Line:
    """Read one line; raises BadLine."""
    from rag_chat.assistant import Request

    try:
        text.encode()
        row = json.loads(text)
    except UnicodeEncodeError as error:
        raise BadLine("not valid UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise BadLine(f"not valid JSON: {error}") from error
    if not isinstance(row, dict) or not _is_id(row.get("id")):
        raise BadLine('it is no object with an "id" (a string or a whole number)')
    said = _messages(row.get("messages"))
    if said[-1].role != "user" or not said[-1].content.strip():
        raise BadLine("its last message is not a question of the user")
    passages = _passages(row["id"], row["passages"]) if row.get("passages") is not None else None
    return row["id"], Request(said[-1].content, said[:-1], passages)


def _messages(rows: Any) -> tuple[Message, ...]:
    from rag_chat.types import Message

    if not isinstance(rows, list) or not rows:
        raise BadLine('it has no list of "messages"')
    for row in rows:
        if not isinstance(row, dict) or row.get("role") not in _ROLES or not _is_text(row.get("content")):
            raise BadLine('a message is {"role": "user"|"assistant"|"system", "content": text}')
    return tuple(Message(row["role"], row["content"]) for row in rows)


def _passages(name: str | int, rows: Any) -> tuple[Passage, ...]:
    from rag_chat.types import Passage

    if not isinstance(rows, list):
        raise BadLine('its "passages" are no list')
    for row in rows:
        if not isinstance(row, dict) or not _is_text(row.get("text")) or not _is_text(row.get("title", "")):
            raise BadLine('a passage is {"text": text, "title"?: text}')
    places = [f"{name}#passage-{number}" for number in range(1, len(rows) + 1)]
    return tuple(
        Passage(place, place, row.get("title", ""), row["text"], 0, len(row["text"]))
        for place, row in zip(places, rows, strict=True)
    )


def _is_id(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, int) and not isinstance(value, bool))


def _is_text(value: Any) -> bool:
    """Whether a value is text without lone surrogates, which no tokenizer takes."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _to_do(path: Path, done: set[str | int], bad: list[dict[str, Any]]) -> Iterator[Line]:
    """Yield what is not answered yet; report what cannot be read."""
    seen: set[str | int] = set()
    for number, text in _lines(path):
        try:
            name, request = parse_line(text)
            if name in seen:
                raise BadLine(f"another line has the id {name!r}")
        except BadLine as reason:
            note(f"skipped {path}, line {number}: {reason}")
            bad.append({"line": number, "reason": str(reason)})
            continue
        seen.add(name)
        if name not in done:
            yield name, request


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers; bytes that are no UTF-8 make it bad JSON."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            text = raw.decode("utf-8-sig", "surrogateescape").strip()
            if text:
                yield number, text


def _answered(path: Path) -> set[str | int]:
    """Return the ids that `path` has answers for; a line that a kill cut short is taken away."""
    found: set[str | int] = set()
    if not path.exists():
        return found
    with path.open("r+b") as file:
        start = 0
        for raw in iter(file.readline, b""):
            if not raw.endswith(b"\n") and _is_cut_short(raw):
                file.truncate(start)
                break
            found.add(_id_of_answer(raw, path))
            if not raw.endswith(b"\n"):
                file.write(b"\n")
            start = file.tell()
    return found


def _is_cut_short(raw: bytes) -> bool:
    """Whether the last line of a file is the beginning of one of ours."""
    try:
        json.loads(raw)
    except ValueError:
        return raw.startswith(_BEGINNING) or _BEGINNING.startswith(raw)
    return False


def _id_of_answer(raw: bytes, path: Path) -> str | int:
    try:
        row = json.loads(raw)
        if isinstance(row, dict) and _is_id(row.get("id")) and "answer" in row:
            name: str | int = row["id"]
            return name
    except ValueError:
        pass
    raise UsageError(f"{path} holds something else than answers.", "Name another file with -o.")


def _progress(questions: Path, already: int) -> Any:
    """A bar on standard error; nothing where that is no terminal."""
    from tqdm import tqdm

    shown = sys.stderr.isatty()
    total = sum(1 for _ in _lines(questions)) if shown else None
    return tqdm(total=total, initial=already, unit=" answers", disable=not shown)
