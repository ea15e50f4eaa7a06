"""Checkpoints on disk: weights, tokenizer, and what the prompt looked like in training."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from rag_chat.config import GenerationSettings, from_mapping
from rag_chat.errors import ModelError
from rag_chat.generation.prompt import PROMPT_VERSION

_CARD = "rag_chat.json"


def save_checkpoint(model: Any, tokenizer: Any, folder: Path, generation: GenerationSettings) -> None:
    """Write a checkpoint whole or not at all: safetensors, tokenizer, settings and checksums."""
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    model.save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    card = {
        "prompt_version": PROMPT_VERSION,
        "generation": dataclasses.asdict(generation),
        "sha256": {path.name: _sha256(path) for path in sorted(fresh.glob("*.safetensors"))},
    }
    (fresh / _CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    fresh.rename(folder)


def read_card(folder: Path) -> GenerationSettings | None:
    """Return the settings a checkpoint was trained with, or None for a model made elsewhere.

    Raises ModelError when it was trained on another prompt version or a weight file is damaged.
    """
    path = folder / _CARD
    if not path.is_file():
        return None
    card = json.loads(path.read_text(encoding="utf-8"))
    if card["prompt_version"] != PROMPT_VERSION:
        raise ModelError(
            f"{folder} was trained on prompt version {card['prompt_version']}, "
            f"and this rag_chat writes version {PROMPT_VERSION}.",
            "Train it again with: rag-chat train DIALOGUES -i INDEX -o MODEL",
        )
    for name, wanted in card["sha256"].items():
        weights = folder / name
        if not weights.is_file() or _sha256(weights) != wanted:
            raise ModelError(
                f"{weights} is missing or damaged: its checksum does not match.",
                "Copy the model again, or train it again with: rag-chat train",
            )
    return from_mapping(GenerationSettings, card["generation"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
