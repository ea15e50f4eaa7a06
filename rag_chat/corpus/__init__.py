"""From files to passages: read documents and dialogues, and cut them with exact offsets."""

from __future__ import annotations

from rag_chat.corpus.chunking import (
    TokenSpans,
    chunk_dialogue,
    chunk_document,
    dialogue_document,
)
from rag_chat.corpus.readers import read_sources

__all__ = ["TokenSpans", "chunk_dialogue", "chunk_document", "dialogue_document", "read_sources"]
