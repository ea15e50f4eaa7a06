"""`rag-chat bundle`: a bot in one file."""

from __future__ import annotations

from pathlib import Path

import click

from rag_chat.commands.opening import resolve_model
from rag_chat.commands.options import FILE, index_option, json_option, model_option, option
from rag_chat.commands.printing import emit, say


@click.command()
@index_option
@model_option
@option("-o", "--output", type=FILE, required=True, metavar="BOT.zip", help="Where to write it.")
@json_option
def bundle(folder: Path, model: str, output: Path, as_json: bool) -> None:
    """Pack an index and a model into one file: `rag-chat serve BOT.zip` needs no network.

    Its manifest has the SHA-256 of every file; `serve` checks them all.
    """
    from rag_chat.retrieval.index import Index
    from rag_chat.serving.bundle import make_bundle

    with Index.open(folder) as index:
        manifest = make_bundle(index, resolve_model(model), output)
    size = output.stat().st_size
    if as_json:
        emit({"path": str(output), "bytes": size, **manifest})
    else:
        say(f"{output}: {len(manifest['files'])} files, {size:,} bytes")
