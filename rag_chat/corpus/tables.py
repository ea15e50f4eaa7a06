"""CSV files: rows are exchanges, turns of dialogues, or documents."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rag_chat.corpus.records import dialogue, said
from rag_chat.corpus.sources import Fault, Record, SourceFile
from rag_chat.corpus.text import read_lines, readable, with_topic
from rag_chat.errors import UsageError
from rag_chat.types import Dialogue, Document

LAYOUTS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("dialogue", "role", "content"): ("topic",),
    ("question", "answer"): ("id", "topic"),
    ("text",): ("id", "title", "topic"),
}
"""What a table can be: the parts it needs, and those it may have. The first that fits is taken."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "dialogue": ("dialogue", "dialogue_id", "conversation", "conversation_id", "id"),
    "role": ("role", "speaker"),
    "content": ("content", "text", "message"),
    "question": ("question",),
    "answer": ("answer",),
    "text": ("text",),
    "id": ("id", "_id"),
    "title": ("title",),
    "topic": ("topic", "category"),
}
"""The column names, in any case, by which a part is recognised when no columns are given."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: the line it ends in, its number from 1, its cells by column."""

    line: int
    number: int
    cells: dict[str, str]


def check_columns(columns: Mapping[str, str] | None) -> None:
    """Raise UsageError for a column map that names no known layout."""
    if columns is None or any(
        set(needed) <= set(columns) <= {*needed, *optional} for needed, optional in LAYOUTS.items()
    ):
        return
    raise UsageError(
        f"The column map {', '.join(sorted(columns)) or '(empty)'} is none that is known.",
        "Map question and answer; or dialogue, role and content; or text with title and id.",
    )


def read_csv(file: SourceFile, columns: Mapping[str, str] | None) -> Iterator[Record]:
    """Read a .csv file row by row, with `,`, `;` or tab between the cells.

    `columns` maps the parts of a layout to the columns that hold them: {"question", "answer"} makes
    each row a dialogue of one exchange, {"dialogue", "role", "content"} makes adjacent rows of one
    dialogue its turns, {"text"} with "title" and "id" makes each row a document. Without `columns`
    the parts are guessed by `NAMES`; rows that fit nothing are documents of "column: value" lines.
    """
    layout: dict[str, str] | None = None
    turns: list[Row] = []
    for line, row in _rows(file):
        if isinstance(row, Fault):
            yield line, row
            continue
        if layout is None:
            layout = _layout(list(row.cells), columns)
        if "role" in layout:
            if turns and turns[0].cells[layout["dialogue"]] != row.cells[layout["dialogue"]]:
                yield _attempt(turns, layout, file)
                turns = []
            turns.append(row)
        else:
            yield _attempt([row], layout, file)
    if turns and layout:
        yield _attempt(turns, layout, file)


def _rows(file: SourceFile) -> Iterator[tuple[int, Row | Fault]]:
    faults: list[Fault] = []  # of the lines that the row being read is made of
    lines = _clean_lines(file, faults)
    first = next(lines, "")
    if faults:
        raise faults[0]
    delimiter = max(",;\t", key=first.count)
    try:
        header = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
    except csv.Error as error:
        raise Fault(f"not readable as CSV: {error}", 1) from None
    if len(set(header)) < len(header) or not all(header):
        raise Fault("the header has an empty or a repeated column name", 1)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    number = 0
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.append(Fault(f"not readable as CSV: {error}"))
            cells = []
        line = reader.line_num + 1
        if faults:
            yield line, Fault(faults[0].reason, faults[0].line or line)
            faults.clear()
        elif any(cell.strip() for cell in cells):
            yield line, _row(header, cells, line, number)


def _clean_lines(file: SourceFile, faults: list[Fault]) -> Iterator[str]:
    """Yield the lines with their ends; a bad one comes empty and is noted in `faults`."""
    for _, line in read_lines(file.path):
        if isinstance(line, Fault):
            faults.append(line)
        yield "\n" if isinstance(line, Fault) else f"{line}\n"


def _row(header: list[str], cells: list[str], line: int, number: int) -> Row | Fault:
    if len(cells) != len(header):
        return Fault(f"{len(cells)} cells where the header has {len(header)}", line)
    return Row(line, number, dict(zip(header, cells, strict=True)))


def _layout(header: list[str], columns: Mapping[str, str] | None) -> dict[str, str]:
    if columns is not None:
        for column in columns.values():
            if column not in header:
                raise Fault(f"there is no column {column!r}, only {', '.join(header)}", 1)
        return dict(columns)
    by_name = {column.lower(): column for column in reversed(header)}
    for needed, optional in LAYOUTS.items():
        found = {
            part: next((by_name[name] for name in NAMES[part] if name in by_name), "")
            for part in (*needed, *optional)
        }
        if all(found[part] for part in needed):
            return {part: column for part, column in found.items() if column}
    return {}


def _attempt(rows: list[Row], layout: Mapping[str, str], file: SourceFile) -> Record:
    line = rows[0].line
    try:
        if "text" in layout or not layout:
            return line, _document(rows[0], layout, file)
        return line, _dialogue(rows, layout, file)
    except Fault as fault:
        return line, fault


def _dialogue(rows: list[Row], layout: Mapping[str, str], file: SourceFile) -> Dialogue:
    cells, rest = rows[0].cells, _rest(rows[0], layout)
    if "role" in layout:
        identifier = cells[layout["dialogue"]]
        messages = [
            said(row.cells[layout["role"]], row.cells[layout["content"]], f"line {row.line}") for row in rows
        ]
        rest = {}  # the other columns belong to single turns
    else:
        identifier = cells.get(layout.get("id", ""), "")
        question, answer = cells[layout["question"]], cells[layout["answer"]]
        messages = [said("user", question, "the question"), said("assistant", answer, "the answer")]
    topic = cells.get(layout.get("topic", ""), "")
    record = {"id": identifier, "topic": topic, "metadata": rest}
    return dialogue(file, rows[0].number, messages, record)


def _document(row: Row, layout: Mapping[str, str], file: SourceFile) -> Document:
    cells = row.cells
    if not layout:
        text = "\n".join(f"{column}: {cell}" for column, cell in cells.items() if cell.strip())
        identity = f"{file.identity}#{row.number}"
        return Document(identity, text, readable(file.path.stem), with_topic({}, file.topic))
    metadata = _rest(row, layout)
    if topic := cells.get(layout.get("topic", ""), ""):
        metadata["topic"] = topic
    return Document(
        source=f"{file.identity}#{cells.get(layout.get('id', ''), '') or row.number}",
        text=cells[layout["text"]],
        title=cells.get(layout.get("title", ""), "").strip(),
        metadata=with_topic(metadata, file.topic),
    )


def _rest(row: Row, layout: Mapping[str, str]) -> dict[str, str]:
    """Return the cells that no part of the layout takes, to become metadata."""
    taken = set(layout.values())
    return {name: cell for name, cell in row.cells.items() if name not in taken and cell.strip()}
