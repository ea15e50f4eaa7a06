"""`rag-chat sessions`: the conversations that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from rag_chat.commands.options import FILE, json_option, option, owner_option
from rag_chat.commands.printing import emit, note, one_line, say
from rag_chat.commands.results import say_trace


@click.group()
def sessions() -> None:
    """See, export and remove kept conversations."""


@sessions.command("list")
@owner_option
@json_option
def list_(owner: str, as_json: bool) -> None:
    """List the conversations, the one continued last first."""
    from rag_chat.conversation.sessions import SessionStore

    store = SessionStore(owner=owner)
    found = store.list()
    if as_json:
        emit([asdict(one) for one in found])
        return
    if not found:
        note(f"No conversations in {store.path}.")
    for one in found:
        question = one_line(one.first_question or "")
        say(f"{one.id}  {one.updated[:16].replace('T', ' ')}  {one.turns:>3} turns  {question:.60}")


@sessions.command()
@click.argument("name", metavar="ID")
@option("--why", is_flag=True, help="How each turn was answered, too.")
@owner_option
@json_option
def show(name: str, why: bool, owner: str, as_json: bool) -> None:
    """Print a conversation."""
    from rag_chat.conversation.sessions import SessionStore
    from rag_chat.corpus.writing import dialogue_json

    store = SessionStore(owner=owner)
    dialogue, traces = store.export(name), store.traces(name)
    if as_json:
        emit(dialogue_json(dialogue) | ({"traces": list(traces)} if why else {}))
        return
    for trace in traces:
        say(f"> {trace['question']}\n{trace['answer']}")
        if why:
            say_trace(trace)
        say()


@sessions.command()
@click.argument("name", metavar="ID")
@option("-o", "--output", type=FILE, metavar="FILE", help="Where to write; by default standard output.")
@owner_option
def export(name: str, output: Path | None, owner: str) -> None:
    """Write a conversation as a line of JSON, in the format that `index` and `train` read."""
    from rag_chat.conversation.sessions import SessionStore
    from rag_chat.corpus.writing import dialogue_json, write_dialogues

    dialogue = SessionStore(owner=owner).export(name)
    if output is None:
        emit(dialogue_json(dialogue))
    else:
        write_dialogues([dialogue], output)
        note(f"{output}: {len(dialogue.messages)} messages")


@sessions.command()
@click.argument("names", nargs=-1, required=True, metavar="ID...")
@owner_option
def rm(names: Sequence[str], owner: str) -> None:
    """Delete conversations for good."""
    from rag_chat.conversation.sessions import SessionStore

    store = SessionStore(owner=owner)
    for name in names:
        store.remove(name)
        say(f"removed {name}")
