"""Texts become unit vectors: by the packaged model, sentence-transformers, or LangChain."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from rag_chat.config import PACKAGED_EMBEDDER
from rag_chat.corpus import TokenSpans
from rag_chat.errors import ModelError, UsageError
from rag_chat.index.arrays import unit_rows
from rag_chat.index.minilm import GRAPHS, MiniLmEmbedder
from rag_chat.index.sentence_transformer import SentenceTransformerEmbedder
from rag_chat.types import Embedder, EmbedderIdentity, Precision

# Where Linux shows NVIDIA's, AMD's and WSL's: asking torch instead would load it for every search.
GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


class LangChainEmbeddings(Protocol):
    """The two methods of LangChain's `Embeddings` that are used here."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]: ...

    def embed_query(self, text: str) -> list[float]: ...


AnyEmbedder = str | Path | Embedder | LangChainEmbeddings
"""What can be given where an embedder is needed."""


class LangChainEmbedder:
    """LangChain's `Embeddings` as an Embedder; known by its class, model name and dimension."""

    def __init__(self, embeddings: LangChainEmbeddings) -> None:
        self._embeddings = embeddings
        model = getattr(embeddings, "model_name", None) or getattr(embeddings, "model", None)
        name = f"langchain:{type(embeddings).__name__}"
        self._identity = EmbedderIdentity(
            name=f"{name}:{model}" if isinstance(model, str) else name,
            revision="",
            dimension=len(embeddings.embed_query("How many numbers is a vector?")),
            pooling="",
        )

    @property
    def identity(self) -> EmbedderIdentity:
        return self._identity

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """Return (len(texts), dimension) float32 with unit rows; raises ModelError."""
        if not texts:
            return np.empty((0, self.identity.dimension), np.float32)
        if query:
            rows = [self._embeddings.embed_query(text) for text in texts]
        else:
            rows = self._embeddings.embed_documents(list(texts))
        return unit_rows(rows, (len(texts), self.identity.dimension), self.identity.name)


def load_embedder(
    embedder: AnyEmbedder, *, device: str | None = None, precision: Precision = "fp32"
) -> Embedder:
    """Return an Embedder for a name, a folder, an Embedder (as it is) or LangChain's own.

    On the CPU the packaged one runs without torch. Raises ModelError, or UsageError for int8 of another.
    """
    on_cpu = device == "cpu" or (device is None and not _has_gpu())
    if embedder == PACKAGED_EMBEDDER and precision in GRAPHS and (on_cpu or precision == "int8"):
        return MiniLmEmbedder(precision)
    if isinstance(embedder, str | Path):
        if precision == "int8":
            raise UsageError(
                f"int8 is for the packaged embedder only, not for {embedder}.",
                "Use --embed-precision fp32 or bf16.",
            )
        return SentenceTransformerEmbedder(embedder, device=device, bf16=precision == "bf16")
    if _is_embedder(embedder):
        return embedder
    if _is_langchain(embedder):
        return LangChainEmbedder(embedder)
    raise ModelError(
        f"{type(embedder).__name__} is not an embedder.",
        "Pass a model name, a folder, LangChain Embeddings, or something with identity and embed.",
    )


def reference_of(embedder: AnyEmbedder) -> str:
    """Return the name or folder to load an embedder by again; "" for an object that has none."""
    if isinstance(embedder, str | Path):
        folder = embedder != PACKAGED_EMBEDDER and Path(embedder).is_dir()
        return str(Path(embedder).absolute() if folder else embedder)
    return getattr(embedder, "reference", "")


def precision_of(embedder: AnyEmbedder) -> Precision:
    """Return in what an embedder computes; "fp32" where it does not tell."""
    return embedder.identity.precision if _is_embedder(embedder) else "fp32"


def same_embedder(one: EmbedderIdentity, other: EmbedderIdentity) -> bool:
    """Whether two embedders give the same vectors; a renamed folder is the same embedder."""
    known = bool(one.revision) and one.revision == other.revision
    return _without_name(one) == _without_name(other) and (known or one.name == other.name)


def token_spans_of(embedder: Embedder) -> TokenSpans:
    """Return how the embedder splits a text; words and signs where it does not tell."""
    spans: TokenSpans | None = getattr(embedder, "token_spans", None)
    return spans or word_spans


def word_spans(text: str) -> list[tuple[int, int]]:
    """Return the character spans of words and single signs."""
    return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]


def _has_gpu() -> bool:
    return any(Path(place).exists() for place in GPU_DEVICES)


def _is_embedder(candidate: object) -> TypeGuard[Embedder]:
    return hasattr(candidate, "identity") and hasattr(candidate, "embed")


def _is_langchain(candidate: object) -> TypeGuard[LangChainEmbeddings]:
    return hasattr(candidate, "embed_documents") and hasattr(candidate, "embed_query")


def _without_name(identity: EmbedderIdentity) -> tuple[str | int, ...]:
    return (
        identity.revision,
        identity.dimension,
        identity.query_prefix,
        identity.document_prefix,
        identity.pooling,
        identity.precision,
    )
