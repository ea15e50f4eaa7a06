"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from rag_chat.config import PACKAGED_EMBEDDER

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)

Command = TypeVar("Command", bound=Callable[..., Any] | click.Command)


def option(*names: str, **attributes: Any) -> Callable[[Command], Command]:
    """A click option whose environment variable is in the help."""
    return click.option(*names, show_envvar=True, **attributes)


def key_values(
    context: click.Context,  # noqa: ARG001  # click's signature
    parameter: click.Parameter,  # noqa: ARG001
    given: Sequence[str] | str | None,
) -> Mapping[str, str] | None:
    """Read key=value, given several times or with commas between them."""
    pairs = given.split(",") if isinstance(given, str) else given or ()
    found: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not key or not sign:
            raise click.BadParameter(f"{pair!r} is not of the form key=value.")
        if found.get(key, value) != value:
            raise click.BadParameter(f"{key!r} is given twice, and cannot be both.")
        found[key] = value
    return found or None


index_option = option(
    "-i", "--index", "folder", type=FOLDER, required=True, envvar="RAG_CHAT_INDEX", metavar="DIR",
    help="The index to search.",
)  # fmt: skip
model_option = option(
    "-m", "--model", default="reader", show_default=True, envvar="RAG_CHAT_MODEL", metavar="MODEL",
    help="reader, extractive, a folder, a name that `models list` shows, or provider:model.",
)  # fmt: skip
k_option = option(
    "-k", "k", type=click.IntRange(min=1), default=5, show_default=True, envvar="RAG_CHAT_K",
    help="How many passages.",
)  # fmt: skip
filter_option = option(
    "--filter", multiple=True, callback=key_values, envvar="RAG_CHAT_FILTER", metavar="KEY=VALUE",
    help="Only passages with this metadata; may be repeated.",
)  # fmt: skip
session_option = option(
    "--session", envvar="RAG_CHAT_SESSION", metavar="ID", help="The conversation to begin or to go on with."
)
owner_option = option(
    "--owner", default="", envvar="RAG_CHAT_OWNER", metavar="NAME",
    help="Whose conversations; by default those of the local user.",
)  # fmt: skip
remember_option = option(
    "--remember", is_flag=True, envvar="RAG_CHAT_REMEMBER",
    help="Search your own past conversations, too; nobody else's are.",
)  # fmt: skip
device_option = option(
    "--device", envvar="RAG_CHAT_DEVICE", metavar="D", help="cpu, cuda, cuda:1 or mps; by default the best."
)
rerank_option = option(
    "--rerank", envvar="RAG_CHAT_RERANK", metavar="MODEL",
    help="A cross-encoder (folder or name) that orders the best 50 passages anew.",
)  # fmt: skip
json_option = option("--json", "as_json", is_flag=True, envvar="RAG_CHAT_JSON", help="Print JSON.")
embedder_option = option(
    "--embedder", envvar="RAG_CHAT_EMBEDDER", metavar="M",
    help=f"A sentence-transformers folder or name.  [default: {PACKAGED_EMBEDDER}]",
)  # fmt: skip
