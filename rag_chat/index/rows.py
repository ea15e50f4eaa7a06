"""How single values are stored and compared: checksums, hashes, tags and JSON."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from rag_chat.types import Passage, Scalar


def checksum(content: Sequence[Any]) -> int:
    """Return the CRC-32 of a row's values, as JSON; whatever damage has made of them."""
    return zlib.crc32(json.dumps(list(content), ensure_ascii=False, default=repr).encode())


def text_hash(text: str) -> bytes:
    """Return the SHA-256 of a text: texts with the same hash have the same vector."""
    return hashlib.sha256(text.encode()).digest()


def tag(value: Scalar) -> str:
    """Return how a metadata value is compared: as text, so that a filter year=2020 finds 2020."""
    if isinstance(value, str):
        return value
    whole = isinstance(value, float) and value.is_integer()
    return json.dumps(int(value) if whole else value)


def tags_of(passage: Passage) -> dict[str, str]:
    """Return what a passage can be filtered by."""
    values: dict[str, Scalar] = {**passage.metadata, "kind": passage.kind, "source": passage.source}
    return {key: tag(value) for key, value in values.items()}


def content_of(row: int, passage: Passage) -> tuple[Any, ...]:
    """Return what the checksum of a passage covers, in the order of the columns that are read."""
    return (
        row,
        passage.source,
        passage.kind,
        passage.id,
        passage.title,
        passage.text,
        passage.start,
        passage.end,
        passage.context,
        passage.situation,
        as_json(passage.metadata),
    )


def as_json(metadata: Mapping[str, Scalar]) -> str:
    """Return metadata as a JSON object, the same for the same content."""
    return json.dumps(dict(metadata), ensure_ascii=False, sort_keys=True)
