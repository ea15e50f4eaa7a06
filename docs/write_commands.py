"""Write docs/commands.md from the help of every command: python docs/write_commands.py"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from rag_chat.commands import cli

WIDTH = 100


def page() -> str:
    """The page: the help of each command, in the order of the command line."""
    parts = ["# Commands\n\nWritten from the commands' own help by `python docs/write_commands.py`.\n"]
    for context in _contexts(cli, "rag-chat", None):
        parts.append(f"## {context.command_path}\n\n```text\n{context.get_help()}\n```\n")
    return "\n".join(parts)


def _contexts(command: click.Command, name: str, parent: click.Context | None) -> Iterator[click.Context]:
    """The context of a command as click makes it for --help, then those of its commands."""
    settings = {**command.context_settings, "max_content_width": WIDTH, "terminal_width": WIDTH}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    yield context
    if isinstance(command, click.Group):
        for child, inner in sorted(command.commands.items()):
            yield from _contexts(inner, child, context)


if __name__ == "__main__":
    (Path(__file__).parent / "commands.md").write_text(page(), encoding="utf-8")
