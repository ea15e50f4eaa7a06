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
    for path, command in _commands(cli, "rag-chat"):
        context = click.Context(command, info_name=path, max_content_width=WIDTH, terminal_width=WIDTH)
        parts.append(f"## {path}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, child in sorted(command.commands.items()):
            yield from _commands(child, f"{path} {name}")


if __name__ == "__main__":
    (Path(__file__).parent / "commands.md").write_text(page(), encoding="utf-8")
