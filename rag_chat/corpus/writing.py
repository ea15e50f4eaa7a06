"""Write dialogues in the chat format that `read_sources` reads back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rag_chat.types import Dialogue, Message


def dialogue_json(dialogue: Dialogue) -> dict[str, Any]:
    """The JSON object of one conversation; empty fields are left out."""
    fields = {
        "id": dialogue.id,
        "topic": dialogue.topic,
        "messages": [_message_json(message) for message in dialogue.messages],
        "metadata": dict(dialogue.metadata),
    }
    return {name: value for name, value in fields.items() if value}


def write_dialogues(dialogues: Iterable[Dialogue], path: Path) -> int:
    """Write JSON Lines, one conversation a line, and return how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for dialogue in dialogues:
            file.write(json.dumps(dialogue_json(dialogue), ensure_ascii=False) + "\n")
            count += 1
    return count


def _message_json(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.sources:
        fields["sources"] = list(message.sources)
    if message.passages:
        fields["passages"] = [{"title": p.title, "text": p.text} for p in message.passages]
    if message.abstained:
        fields["abstained"] = True
    if message.rewrite:
        fields["rewrite"] = message.rewrite
    return fields
