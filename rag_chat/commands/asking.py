"""`rag-chat search` and `rag-chat ask`: one question, or a file of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import click

from rag_chat.commands.batch import answer_file
from rag_chat.commands.opening import opened_assistant, opened_index
from rag_chat.commands.options import (
    FILE,
    FOLDER,
    device_option,
    filter_option,
    index_option,
    json_option,
    k_option,
    model_option,
    option,
    owner_option,
    remember_option,
    rerank_option,
    session_option,
)
from rag_chat.commands.printing import emit, note, say
from rag_chat.commands.results import say_answer, say_hits
from rag_chat.config import SearchMode
from rag_chat.conversation.writing import answer_json, hit_json
from rag_chat.errors import UsageError


@click.command()
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.argument("query")
@k_option
@option("--mode", type=click.Choice(get_args(SearchMode)), default="hybrid", show_default=True,
        envvar="RAG_CHAT_MODE", help="By meaning (dense), by words (lexical), or both.")  # fmt: skip
@filter_option
@rerank_option
@json_option
def search(
    folder: Path,
    query: str,
    k: int,
    mode: SearchMode,
    filter: Mapping[str, str] | None,
    rerank: str | None,
    as_json: bool,
) -> None:
    """Find the passages of an index that fit a query."""
    with opened_index(folder, rerank) as index:
        hits = index.search(query, k, mode=mode, filter=filter)
    if as_json:
        emit([hit_json(hit) for hit in hits])
    elif hits:
        say_hits(hits)
    else:
        note("No passage matches.")


@click.command()
@click.argument("question", required=False)
@index_option
@model_option
@k_option
@session_option
@owner_option
@remember_option
@filter_option
@option("--show-context", is_flag=True, help="Print the passages put to the model, too.")
@option("--batch", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="IN.jsonl",
        help="Answer a file: a line is {id, messages, passages?}.")  # fmt: skip
@option(
    "-o", "--output", type=FILE, metavar="OUT.jsonl", help="Where --batch writes, a line for each answer."
)
@rerank_option
@device_option
@json_option
def ask(
    question: str | None,
    folder: Path,
    model: str,
    k: int,
    session: str | None,
    owner: str,
    remember: bool,
    filter: Mapping[str, str] | None,
    show_context: bool,
    batch: Path | None,
    output: Path | None,
    rerank: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Answer a question from an index, with sources.

    With --batch and -o a file of questions is answered; run again, it goes on where it stopped.
    """
    if (batch is None) != (output is None):
        raise UsageError("--batch and -o go together.", "Say: rag-chat ask --batch IN -o OUT -i DIR")
    if (question is None) == (batch is None):
        raise UsageError("Give either a QUESTION or --batch.", "Say: rag-chat ask 'QUESTION' -i DIR")
    with opened_assistant(folder, model, k, device, rerank) as bot:
        if batch and output:
            answer_file(bot, batch, output, filter=filter, as_json=as_json)
            return
        assert question is not None
        if session or remember:
            with bot.session(session, owner=owner, remember=remember) as conversation:
                answer = conversation.ask(question, filter=filter)
        else:
            answer = bot.ask(question, filter=filter)
    if as_json:
        emit(answer_json(answer))
        return
    say_answer(answer)
    if show_context:
        say("\nPassages:")
        say_hits(answer.hits)
