"""The turns that are scored, and what must hold for the scores to mean anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rag_chat.assistant import Request
from rag_chat.corpus.identity import conversation_hash, text_hash
from rag_chat.errors import ModelError, UsageError
from rag_chat.retrieval.index import Index
from rag_chat.types import Dialogue, Message


@dataclass(frozen=True, slots=True)
class Case:
    """One user turn with the history as it was written, the reply wanted, and the documents it rests on.

    `depth` counts the user's turns so far, this one included.
    """

    dialogue: str
    topic: str
    depth: int
    request: Request
    reply: Message

    @property
    def id(self) -> str:
        return f"{self.dialogue}/{self.depth}"


def cases(dialogue: Dialogue) -> list[Case]:
    """The turns of a dialogue that have a reply to compare with."""
    turns = dialogue.messages
    topic = dialogue.topic or str(dialogue.metadata.get("topic", ""))
    return [
        Case(
            dialogue.id,
            topic,
            sum(turn.role == "user" for turn in turns[:i]),
            Request(turns[i - 1].content, turns[: i - 1]),
            turns[i],
        )
        for i in range(1, len(turns))
        if turns[i].role == "assistant" and turns[i - 1].role == "user"
    ]


def check_index(dialogues: Sequence[Dialogue], index: Index) -> None:
    """Raise UsageError when a conversation is in the index, under its own or another id."""
    stored = {
        text_hash(index.document_text(source) or ""): source
        for source, state in index.store.states().items()
        if state.kind == "dialogue"
    }
    leaked = [d.id for d in dialogues if index.has_source(d.id)]
    leaked += [stored[digest] for d in dialogues if (digest := conversation_hash(d)) in stored]
    if leaked:
        names = list(dict.fromkeys(leaked))
        raise UsageError(
            f"{len(names)} of these conversations are in the index, {names[0]!r} for one: "
            "the answers would be read off.",
            f"Take them out with: rag-chat index rm {index.path} {names[0]} ...",
        )


def check_training(dialogues: Sequence[Dialogue], model: str | Path) -> None:
    """Raise UsageError when a model of this library was trained on one of the conversations.

    A model without a record of its training passes: nothing is known of it.
    """
    record = Path(model) / "training.json"
    if not record.is_file():
        return
    try:
        seen = set(json.loads(record.read_text(encoding="utf-8")).get("trained_on", ()))
    except (ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"{record} is damaged: {error}", "Copy the model again.") from error
    leaked = [d.id for d in dialogues if conversation_hash(d) in seen]
    if leaked:
        raise UsageError(
            f"{model} was trained on {len(leaked)} of these conversations, {leaked[0]!r} for one: "
            "it would be scored on what it knows by heart.",
            "Evaluate on others, or train without these: rag-chat train DIALOGUES -i INDEX -o MODEL",
        )


def check_gold(found: Sequence[Case], index: Index) -> None:
    """Raise UsageError when replies name documents that the index does not have, or has several of."""
    named = {source: case for case in reversed(found) for source in case.reply.sources}
    missing = [source for source in named if index.resolve_source(source) is None]
    if missing:
        first = missing[0]
        raise UsageError(
            f"{len(missing)} of the {len(named)} documents that replies name are not in the index, or not "
            f"by one name alone: {first!r} (in {named[first].dialogue!r}) for one.",
            f"Add them with: rag-chat index add {index.path} DOCUMENTS; the names are those of "
            f"rag-chat search {index.path} QUERY --json",
        )
