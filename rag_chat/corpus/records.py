"""JSON records, from .jsonl lines and .json files: chat messages, ShareGPT, BEIR documents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rag_chat.corpus.sources import Fault, Record, SourceFile
from rag_chat.corpus.text import flatten, parse_json, read_lines, read_text, with_topic
from rag_chat.types import Dialogue, Document, Message, Passage, Role, Scalar

ROLES: Mapping[str, Role] = {
    "user": "user",
    "human": "user",
    "a": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "b": "assistant",
    "system": "system",
}
"""The names that tools give to the three roles."""


def read_jsonl(file: SourceFile) -> Iterator[Record]:
    """Read a .jsonl file line by line; each line decides whether it is a dialogue or a document."""
    for number, line in read_lines(file.path):
        if isinstance(line, Fault):
            yield number, line
        elif line.strip():
            try:
                yield number, _item(parse_json(line), file, number)
            except Fault as fault:
                yield number, fault


def read_json(file: SourceFile) -> Iterator[Record]:
    """Read a .json file: one record of those that .jsonl lines hold, or a list of them."""
    value = parse_json(read_text(file.path, limit_lines=False))
    for number, record in enumerate(value if isinstance(value, list) else [value], 1):
        try:
            yield 0, _item(record, file, number)
        except Fault as fault:
            yield 0, Fault(f"record {number}: {fault.reason}")


def _item(value: Any, file: SourceFile, number: int) -> Document | Dialogue:
    try:
        if not isinstance(value, dict):
            raise Fault(f"a record is a JSON object, not {_kind(value)}")
        if "messages" in value:
            return _chat(value, file, number)
        if "conversations" in value:
            return _sharegpt(value, file, number)
        if "text" in value:
            return _document(value, file, number)
    except RecursionError:  # metadata just shallow enough for the parser
        raise Fault("nested too deeply") from None
    raise Fault("it has none of 'messages', 'conversations' and 'text'")


def _document(record: dict[str, Any], file: SourceFile, number: int) -> Document:
    own = record.get("metadata") or {}
    if not isinstance(own, dict):
        raise Fault(f"'metadata' is an object, not {_kind(own)}")
    rest = {k: v for k, v in record.items() if k not in ("_id", "id", "title", "text", "metadata")}
    return Document(
        source=f"{file.identity}#{_identifier(record) or number}",
        text=_string(record, "text").replace("\r\n", "\n"),
        title=_string(record, "title").strip(),
        metadata=with_topic(flatten(rest) | flatten(own), file.topic),
    )


def _chat(record: dict[str, Any], file: SourceFile, number: int) -> Dialogue:
    turns = _objects(record["messages"], "messages")
    messages = [_message(turn, f"message {n}") for n, turn in enumerate(turns, 1)]
    return dialogue(file, number, messages, record)


def _sharegpt(record: dict[str, Any], file: SourceFile, number: int) -> Dialogue:
    turns = _objects(record["conversations"], "conversations")
    messages = [said(turn.get("from"), turn.get("value"), f"turn {n}") for n, turn in enumerate(turns, 1)]
    return dialogue(file, number, messages, record)


def dialogue(
    file: SourceFile, number: int, messages: Sequence[Message], record: Mapping[str, Any]
) -> Dialogue:
    """Build a dialogue; `record` may give its id, topic and metadata, else the file names it."""
    if not messages:
        raise Fault("the conversation has no messages")
    own = record.get("metadata") or {}
    if not isinstance(own, Mapping):
        raise Fault(f"'metadata' is an object, not {_kind(own)}")
    topic = _string(record, "topic").strip()
    metadata: dict[str, Scalar] = with_topic(flatten(own), file.topic)
    return Dialogue(
        id=_identifier(record) or f"{file.identity}#{number}",
        messages=tuple(messages),
        topic=topic,
        metadata=metadata | {"topic": topic} if topic else metadata,
    )


def said(role: Any, content: Any, where: str) -> Message:
    """Build a message from a role in any tool's naming and its content, text or text parts."""
    known = ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if known is None:
        raise Fault(f"{where}: the role is user, assistant or system, not {role!r}")
    if isinstance(content, list):
        content = "\n".join(_part(part, where) for part in content)
    if not isinstance(content, str):
        raise Fault(f"{where}: the content is text, not {_kind(content)}")
    if not content.strip():
        raise Fault(f"{where}: the content is empty")
    return Message(known, content.replace("\r\n", "\n"))


def _part(part: Any, where: str) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    if not isinstance(text, str):
        raise Fault(f"{where}: a part of the content is not text")
    return text


def _message(turn: dict[str, Any], where: str) -> Message:
    plain = said(turn.get("role"), turn.get("content"), where)
    sources = turn.get("sources") or []
    if not isinstance(sources, list) or not all(isinstance(one, str) for one in sources):
        raise Fault(f"{where}: 'sources' is a list of document ids")
    abstained = turn.get("abstained", False)
    if not isinstance(abstained, bool):
        raise Fault(f"{where}: 'abstained' is true or false")
    return Message(
        plain.role,
        plain.content,
        tuple(sources),
        given_passages(turn.get("passages") or [], where),
        abstained,
        _string(turn, "rewrite").strip(),
    )


def given_passages(values: Any, where: str) -> tuple[Passage, ...]:
    """Turn a list of {"text", "title"?} into the passages given#0, given#1 and so on."""
    given = _objects(values, f"{where}: passages")
    return tuple(_given(f"given#{i}", value) for i, value in enumerate(given))


def _given(name: str, value: dict[str, Any]) -> Passage:
    text = _string(value, "text")
    if not text.strip():
        raise Fault(f"the passage {name} has no 'text'")
    return Passage(name, name, _string(value, "title"), text, 0, len(text))


def _objects(values: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise Fault(f"{where}: a list of objects is needed")
    return values


def _identifier(record: Mapping[str, Any]) -> str:
    for key in ("_id", "id"):
        value = record.get(key)
        if isinstance(value, bool) or not isinstance(value, str | int | None):
            raise Fault(f"{key!r} is text or a whole number, not {_kind(value)}")
        if value is not None and str(value).strip():
            return str(value).strip()
    return ""


def _string(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str | None):
        raise Fault(f"{key!r} is text, not {_kind(value)}")
    return value or ""


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"
