"""LangChain's documents as documents of an index."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document as LangChainDocument

from rag_chat.index.rows import as_json
from rag_chat.types import Document, Metadata


def documents_from(documents: BaseLoader | Iterable[LangChainDocument]) -> list[Document]:
    """Return what a LangChain loader or text splitter gives, for `Index.build`, `add` and `sync`.

    A document is known by its id, else by its metadata's `source`, else by its content; where several
    share one (the pages of a file), "#1", "#2" are added. `title` is its title; metadata that is no text
    or number is kept as text.
    """
    given = list(documents.lazy_load() if isinstance(documents, BaseLoader) else documents)
    names = [one.id or str(one.metadata.get("source") or digest(one)) for one in given]
    total, seen = Counter(names), Counter[str]()
    made = []
    for name, one in zip(names, given, strict=True):
        seen[name] += 1
        source = f"{name}#{seen[name]}" if total[name] > 1 else name
        rest = {key: value for key, value in one.metadata.items() if key not in ("source", "title")}
        title = str(one.metadata.get("title") or "")
        made.append(Document(source, one.page_content, title, scalars(rest)))
    return made


def digest(document: LangChainDocument) -> str:
    content = f"{as_json(scalars(document.metadata))}\n{document.page_content}"
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def scalars(metadata: Mapping[str, Any]) -> Metadata:
    return {
        key: value if isinstance(value, str | int | float | bool) else str(value)
        for key, value in metadata.items()
        if value is not None
    }
