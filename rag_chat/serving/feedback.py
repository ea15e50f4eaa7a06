"""Ratings of answers, kept as dialogues that `rag-chat eval` and `rag-chat train` read."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rag_chat.corpus.writing import dialogue_json
from rag_chat.errors import SessionError
from rag_chat.types import Dialogue, Message

_writing = threading.Lock()


def keep_rating(
    folder: Path, name: str, messages: Sequence[Message], rating: Literal["up", "down"], comment: str
) -> None:
    """Write the conversation up to the rated answer into up.jsonl or down.jsonl of a folder.

    A second rating of the same answer (`name`) takes the place of the first. Raises SessionError.
    """
    metadata = {"rating": rating} | ({"comment": comment} if comment else {})
    line = json.dumps(dialogue_json(Dialogue(name, tuple(messages), metadata=metadata)), ensure_ascii=False)
    try:
        with _writing:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for kind in ("up", "down"):
                _replace(folder / f"{kind}.jsonl", name, line if kind == rating else None)
    except OSError as error:
        raise SessionError(
            f"The rating cannot be kept in {folder}: {error.strerror or error}.",
            "Make room or allow writing there.",
        ) from error


def _replace(path: Path, name: str, line: str | None) -> None:
    """Put a line in the place of the one of that name, or leave it out; all or nothing."""
    # Only "\n" ends a line: JSON holds the others that `splitlines` knows, such as U+2028, as they are.
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    old = [one for one in text.split("\n") if one]
    new = [one for one in old if json.loads(one)["id"] != name] + ([line] if line else [])
    if new != old:
        fresh = path.with_suffix(".new")
        fresh.write_text("".join(f"{one}\n" for one in new), encoding="utf-8")
        fresh.chmod(0o600)
        fresh.replace(path)
