"""The little of Markdown that matters for reading: lines, headings, fences and front matter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rag_chat.types import Scalar

MAX_HEADING = 200  # characters; a longer "# line" is text: headings go into the context of passages
FENCE = re.compile(r" {0,3}(```+|~~~+)")
FRONT_MATTER = re.compile(r"---[ \t]*\n((?:[^\n]*\n)*?)---[ \t]*(?:\n|$)")
HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(\S.*)")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a text at text[start:end], its end included.

    `level` is 1 to 6 for a heading, which then is called `title`; lines of code are no headings.
    """

    start: int
    end: int
    level: int = 0
    title: str = ""
    code: bool = False


def lines_of(text: str) -> Iterator[Line]:
    """Yield the lines of a text in order; together they cover it."""
    fence = ""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        line = text[start:end]
        mark = FENCE.match(line)
        if fence:
            yield Line(start, end, code=True)
            if mark and mark[1].startswith(fence) and not line[mark.end() :].strip():
                fence = ""
        elif mark:
            fence = mark[1]
            yield Line(start, end, code=True)
        else:
            level, title = _heading(line)
            yield Line(start, end, level, title)
        start = end


def _heading(line: str) -> tuple[int, str]:
    match = HEADING.match(line) if len(line) <= MAX_HEADING else None
    if match is None:
        return 0, ""
    return len(match[1]), re.sub(r"[ \t]+#+$", "", match[2].rstrip())


def first_heading(text: str) -> str:
    """Return the first heading of level 1, or ""."""
    return next((line.title for line in lines_of(text) if line.level == 1), "")


def front_matter(text: str) -> tuple[dict[str, Scalar], str]:
    """Split a text into its front matter and the rest, which is exact.

    Front matter is `key: value` lines between two lines `---`; the values `[a, b]` and following
    lines `- a` are lists and come joined with ", ". A text that does not begin like this has none.
    """
    match = FRONT_MATTER.match(text)
    if match is None:
        return {}, text
    values: dict[str, list[str]] = {}
    key = ""
    for line in match[1].splitlines():
        if key and (item := re.match(r"\s*-\s+(.+)", line)):
            values[key].append(_bare(item[1]))
        elif pair := re.match(r"([\w-]+):(?:\s+(.*))?$", line):
            key = pair[1]
            values[key] = _values(pair[2] or "")
    return {key: ", ".join(found) for key, found in values.items() if found}, text[match.end() :]


def _values(text: str) -> list[str]:
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        return [bare for part in text[1:-1].split(",") if (bare := _bare(part))]
    return [_bare(text)] if text else []


def _bare(value: str) -> str:
    value = value.strip()
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value
