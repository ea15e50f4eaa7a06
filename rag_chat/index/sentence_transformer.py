"""Any sentence-transformers model, on any device: the reference for the packaged one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_chat.config import PACKAGED_EMBEDDER
from rag_chat.errors import ModelError
from rag_chat.index.arrays import token_batches, unit_rows
from rag_chat.index.packaged import packaged_path, packaged_revision, sha256_of
from rag_chat.types import EmbedderIdentity

CPU_TOKENS = 512  # a batch, padding counted: more leaves the cache
GPU_TOKENS = 32_768
CHARACTERS_A_TOKEN = 4  # about; counting would tokenize every text twice


class SentenceTransformerEmbedder:
    """A sentence-transformers model; safe to call from several threads.

    `reference` is what `load_embedder` needs to load it again.
    """

    def __init__(
        self,
        name: str | Path = PACKAGED_EMBEDDER,
        *,
        device: str | None = None,
        bf16: bool = False,
    ) -> None:
        """Load the model: the packaged one, a folder, or a name on the Hugging Face hub.

        `bf16` computes in bfloat16: see `require_bf16`. Raises ModelError.
        """
        packaged = str(name) == PACKAGED_EMBEDDER
        place = packaged_path() if packaged else Path(name)
        self.reference = str(place.absolute() if place.is_dir() and not packaged else name)
        self._model = _load_model(place if place.is_dir() else str(name), device)
        if bf16:
            self._model.bfloat16()
        self._budget = CPU_TOKENS if self._model.device.type == "cpu" else GPU_TOKENS
        self._lock = threading.Lock()  # fast tokenizers keep padding as state ("Already borrowed")
        prompts: dict[str, str] = self._model.prompts
        self._identity = EmbedderIdentity(
            name=place.name if place.is_dir() and not packaged else str(name),
            revision=_revision(self._model, name, place),
            dimension=_dimension(self._model),
            query_prefix=prompts.get("query") or "",
            document_prefix=prompts.get("document") or prompts.get("passage") or "",
            pooling=_pooling(self._model),
            precision="bf16" if bf16 else "fp32",
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
        import torch

        lengths = [len(text) // CHARACTERS_A_TOKEN + 2 for text in texts]
        batches = list(token_batches(lengths, self._budget))
        with self._lock:
            # Tensors stay where they are: on a GPU a batch is computed while the next is tokenized.
            parts = [
                self._model.encode(
                    [texts[i] for i in batch],
                    prompt=prefix,
                    batch_size=len(batch),
                    show_progress_bar=False,
                    convert_to_tensor=True,
                )
                for batch in batches
            ]
        found = torch.cat(parts).float().cpu().numpy()
        vectors = np.empty_like(found)
        vectors[[i for batch in batches for i in batch]] = found
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


def require_bf16() -> None:
    """Raise ModelError where bfloat16 is emulated, and slower than float32."""
    import torch

    if torch.cuda.is_available():
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if not able:
        raise ModelError(
            "bf16 needs a GPU that has it, or a CPU with AVX512-BF16 or AMX; this machine has neither.",
            "Use --embed-precision fp32, which is exact, or int8, which is faster and less so.",
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
        return packaged_revision()
    if place.is_dir():
        return sha256_of(sorted(place.rglob("*.safetensors")) or sorted(place.rglob("*.bin")))[:16]
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    return str(getattr(config, "_commit_hash", None) or "")


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
