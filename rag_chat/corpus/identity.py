"""Which conversation this is, whatever it is called."""

from __future__ import annotations

import hashlib

from rag_chat.corpus.chunking import dialogue_document
from rag_chat.types import Dialogue


def conversation_hash(dialogue: Dialogue) -> str:
    """SHA-256 of who said what, in hexadecimal: letter case, white space, id and metadata do not count."""
    return text_hash(dialogue_document(dialogue).text)


def text_hash(text: str) -> str:
    """The same of the text of a conversation, as an index stores it."""
    return hashlib.sha256(" ".join(text.lower().split()).encode()).hexdigest()
