"""From a packed turn to an answer: the seq2seq reader, chat models, and a reader without a model."""

from __future__ import annotations

from pathlib import Path

from rag_chat.generation.classic.ngram import COUNTS, NgramGenerator
from rag_chat.generation.extractive import EXTRACTIVE, ExtractiveReader
from rag_chat.types import Embedder, Generator


def load_generator(name: str | Path, *, embedder: Embedder, device: str | None = None) -> Generator:
    """Return the generator of that name.

    name: "reader" (the packaged model), "extractive", "provider:model" for a LangChain chat model, or a
    folder or name of any encoder-decoder. `embedder` is what the extractive reader ranks with.
    """
    if str(name) == EXTRACTIVE:
        return ExtractiveReader(embedder)
    if ":" in str(name) and not Path(name).exists():
        from rag_chat.generation.chat_model import ChatModelGenerator

        return ChatModelGenerator(str(name))
    if (Path(name) / COUNTS).is_file():
        return NgramGenerator(name)
    from rag_chat.generation.seq2seq import Seq2SeqGenerator

    return Seq2SeqGenerator(name, device=device)
