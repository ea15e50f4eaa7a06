"""`rag-chat replay`: answer the turns of a kept conversation again, and show what differs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from rag_chat.commands.opening import opened_assistant
from rag_chat.commands.options import (
    device_option,
    index_option,
    json_option,
    model_option,
    option,
    owner_option,
)
from rag_chat.commands.printing import emit, one_line, say
from rag_chat.errors import SessionError

SHOWN = 300  # characters of a value


@click.command()
@click.argument("name", metavar="ID")
@option("--turn", type=click.IntRange(min=1), metavar="N", help="This turn only.")
@index_option
@model_option
@owner_option
@device_option
@json_option
def replay(
    name: str, turn: int | None, folder: Path, model: str, owner: str, device: str | None, as_json: bool
) -> None:
    """Answer a conversation again, from this index and by this model, and show what differs.

    Each turn gets the history that it had, the filter, and the number of passages. With the same index and
    model an answer is reproduced.
    """
    from rag_chat.conversation.replay import differences
    from rag_chat.conversation.sessions import SessionStore

    store = SessionStore(owner=owner)
    history = store.export(name).messages
    traces = [
        trace for trace in store.traces(name) if turn in (None, trace["turn"]) and trace.get("settings")
    ]
    if not traces:
        raise SessionError(
            f"{name!r} has no such turn to replay.", f"See: rag-chat sessions show {name} --why"
        )
    found: list[dict[str, Any]] = []
    with opened_assistant(folder, model, traces[0]["settings"]["k"], device) as bot:
        for trace in traces:
            bot.k = trace["settings"]["k"]
            before = history[: 2 * (trace["turn"] - 1)]
            answer = bot.ask(trace["question"], before, filter=trace["settings"]["filter"] or None)
            found.append({"turn": trace["turn"], "differences": differences(trace, answer)})
            if not as_json:
                _say(trace, found[-1]["differences"])
    if as_json:
        emit(found)


def _say(trace: Mapping[str, Any], different: list[tuple[str, Any, Any]]) -> None:
    say(f"{trace['turn']}. {one_line(trace['question'])}: {'' if different else 'the same'}")
    for what, old, new in different:
        say(f"   {what}\n     was {one_line(str(old)):.{SHOWN}}\n     is  {one_line(str(new)):.{SHOWN}}")
