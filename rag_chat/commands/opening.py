"""From the names given on the command line to an index and an assistant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rag_chat.commands import offline

if TYPE_CHECKING:
    from rag_chat.assistant import Assistant
    from rag_chat.retrieval.index import Index


@contextmanager
def opened_index(folder: Path, rerank: str | None, device: str | None = None) -> Iterator[Index]:
    """Open the index, with a reranker where one is named."""
    from rag_chat.retrieval.index import Index

    with Index.open(folder) as index:
        if rerank is not None:
            from rag_chat.retrieval.reranking import CrossEncoderReranker

            index.reranker = CrossEncoderReranker(resolve_model(rerank), device=device)
        yield index


@contextmanager
def opened_assistant(
    folder: Path, model: str, k: int, device: str | None, rerank: str | None = None
) -> Iterator[Assistant]:
    """Open the index for as long as the assistant is used."""
    offline.check_model(model)
    from rag_chat.assistant import Assistant

    with opened_index(folder, rerank, device) as index:
        yield Assistant(index, resolve_model(model), k=k, device=device)


def models_folder() -> Path:
    """Where `models download` puts models, and -m finds them by name."""
    from rag_chat.conversation.sessions import default_path

    return default_path().parent / "models"


def resolve_model(name: str) -> str:
    """Return the folder of a downloaded model of that name, or the name itself."""
    downloaded = models_folder() / name
    return str(downloaded) if not Path(name).exists() and downloaded.is_dir() else name
