"""`rag-chat serve`: an index as a server."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from rag_chat.commands import offline
from rag_chat.commands.opening import opened_assistant
from rag_chat.commands.options import FILE, FOLDER, device_option, k_option, model_option, option
from rag_chat.commands.printing import note
from rag_chat.errors import UsageError, require

if TYPE_CHECKING:
    from rag_chat.assistant import Assistant


@click.command()
@click.argument("bundle", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@option("-i", "--index", "folder", type=FOLDER, envvar="RAG_CHAT_INDEX", metavar="DIR", help="The index.")
@model_option
@k_option
@device_option
@option("--host", default="127.0.0.1", show_default=True, help="Any other than this machine needs a key.")
@option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: a free one.")
@option("--api-key-file", type=FILE, metavar="F", help="Keys, one a line, that clients must have one of.")
@option("--allow-host", "hosts", multiple=True, metavar="NAME", help="A name that the server goes by.")
@option("--allow-origin", "origins", multiple=True, metavar="ORIGIN",
        help="A site whose pages may use it, as in https://www.example.com.")  # fmt: skip
@option("--waiting", type=click.IntRange(min=1), default=64, show_default=True,
        help="Requests under way, beyond which it says 429.")  # fmt: skip
@option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Answered together.")
@option("--log-prompts", is_flag=True, help="Log questions, too (with -v).")
@click.pass_context
def serve(
    context: click.Context,
    bundle: Path | None,
    folder: Path | None,
    model: str,
    k: int,
    device: str | None,
    host: str,
    port: int,
    api_key_file: Path | None,
    hosts: Sequence[str],
    origins: Sequence[str],
    waiting: int,
    batch: int,
    log_prompts: bool,
) -> None:
    """Serve an index, or a BUNDLE made by `rag-chat bundle`: API, chat page and widget.

    The API is that of OpenAI, and one of its own: docs/serving.md has both.
    """
    if (bundle is None) == (folder is None):
        raise UsageError("Give either an index or a bundle.", "Say: rag-chat serve -i DIR")
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        require(package, "serve")
    from rag_chat.serving.run import bind, run
    from rag_chat.serving.settings import ServingSettings

    settings = ServingSettings(
        api_keys=_keys(api_key_file),
        hosts=tuple(hosts),
        origins=tuple(origins),
        waiting=waiting,
        batch=batch,
        log_prompts=log_prompts,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # what is unpacked is removed
    listening, settings = bind(host, port, settings)
    with listening, contextlib.ExitStack() as stack:
        if bundle:
            given = context.get_parameter_source("model") != ParameterSource.DEFAULT
            bot = stack.enter_context(_unpacked(bundle, model if given else None, k, device))
        else:
            assert folder is not None
            bot = stack.enter_context(opened_assistant(folder, model, k, device))
        bot.load()
        place, number = listening.getsockname()[:2]
        note(f"http://{f'[{place}]' if ':' in place else place}:{number} serves {bundle or folder}")
        run(bot, listening, settings)


@contextlib.contextmanager
def _unpacked(bundle: Path, model: str | None, k: int, device: str | None) -> Iterator[Assistant]:
    """The assistant in a bundle, which is unpacked for as long as it is used."""
    from rag_chat.assistant import Assistant
    from rag_chat.retrieval.index import Index
    from rag_chat.serving.bundle import unpacked

    with unpacked(bundle) as found:
        chosen = model or found.model
        offline.check_model(chosen)
        with Index.open(found.index, embedder=found.embedder) as index:
            yield Assistant(index, chosen, k=k, device=device)


def _keys(file: Path | None) -> tuple[str, ...]:
    if file is None:
        return ()
    keys = tuple(filter(None, map(str.strip, file.read_text(encoding="utf-8").splitlines())))
    if not keys:
        raise UsageError(f"There is no key in {file}.", "Write one a line.")
    return keys
