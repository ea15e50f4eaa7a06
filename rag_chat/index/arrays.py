"""What every embedder does with its texts and rows: batches of like length in, unit rows out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_chat.errors import ModelError


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield the positions of texts in batches, longest first, so that little is spent on padding.

    lengths: tokens of each text. A batch is at most `budget` tokens, padding counted, or one text.
    """
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


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
