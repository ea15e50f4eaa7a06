"""Where everything printed goes through: data to standard output, the rest to standard error."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from rag_chat.errors import RagChatError

if TYPE_CHECKING:
    from rag_chat.types import Skipped

SHOWN_SKIPPED = 50  # lines in a terminal

# Text of documents and models is not trusted with the terminal: no escape sequences (ECMA-48), no control
# characters but tab and newline, nothing that reverses the direction of writing (CVE-2021-42574).
_SEQUENCE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_ESCAPED = re.compile(r"[\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    """The text without what a terminal would obey."""
    return _CONTROL.sub("", _SEQUENCE.sub("", text))


def one_line(text: str) -> str:
    return " ".join(clean(text).split())


def say(text: str = "", *, end: str = "\n") -> None:
    """Print data."""
    click.echo(clean(text) + end, nl=False)


def note(text: str) -> None:
    """Print what is not data: progress, warnings, hints."""
    click.echo(clean(text), err=True)


def emit(value: Any) -> None:
    """Print data as JSON, with the characters that `clean` removes as JSON's own escapes."""
    click.echo(json_line(value))


def json_line(value: Any) -> str:
    """One line of JSON: nothing is lost, and nothing in it moves a terminal."""
    text = json.dumps(value, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def table(facts: Mapping[str, Any]) -> None:
    """Print names and values, one pair a line; values that are empty are left out."""
    shown = {name.replace("_", " "): value for name, value in facts.items() if value not in (None, "", ())}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        say(f"{name:<{width}}  {value}")


def note_skipped(skipped: Sequence[Skipped]) -> None:
    """Say what could not be read: the file, the line in it, and why."""
    for one in skipped[:SHOWN_SKIPPED]:
        where = f"{one.source}, line {one.line}" if one.line else one.source
        note(f"skipped {where}: {one.reason}")
    if len(skipped) > SHOWN_SKIPPED:
        note(f"... and {len(skipped) - SHOWN_SKIPPED} more")


def complain(error: RagChatError) -> None:
    """Print what happened and what to do about it."""
    note(f"error: {error.problem}")
    note(error.fix)
