"""Checkpoints on disk: weights, tokenizer, and what the prompt looked like in training."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rag_chat.config import GenerationSettings, from_mapping
from rag_chat.errors import ModelError
from rag_chat.generation.prompt import PROMPT_VERSION

NEVER_ABSTAIN = -100.0
"""The bias of a calibrated checkpoint: it always answers, and the calibration says what is worth saying."""

_CARD = "rag_chat.json"
_AGAIN = "Copy the model again, or train it again with: rag-chat train DIALOGUES -i INDEX -o MODEL"


def save_checkpoint(model: Any, tokenizer: Any, folder: Path, generation: GenerationSettings) -> None:
    """Write a checkpoint whole or not at all: safetensors, tokenizer, settings and checksums.

    Takes the place of a model in `folder`; raises ModelError when something else is there.
    """

    def write(fresh: Path) -> None:
        model.config.use_cache = True  # the trainer turns it off, and answering wants it
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)

    save_folder(folder, generation, write)


def save_folder(folder: Path, generation: GenerationSettings, write: Callable[[Path], None]) -> None:
    """Write what `write` puts into a folder, with its card, whole or not at all: see `save_checkpoint`."""
    check_replaceable(folder)
    _mend(folder)
    fresh = folder.absolute().with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    write(fresh)
    card = {
        "prompt_version": PROMPT_VERSION,
        "generation": dataclasses.asdict(generation),
        "sha256": {path.name: _sha256(path) for path in _weights(fresh)},
    }
    (fresh / _CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    move_checkpoint(fresh, folder)


def move_checkpoint(fresh: Path, folder: Path) -> None:
    """Let one folder take the place of another; raises ModelError when that is not a model."""
    check_replaceable(folder)
    folder, old = folder.absolute(), _mend(folder)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _mend(folder: Path) -> Path:
    """Undo what a kill between the two renamings of `move_checkpoint` left; return where the old goes."""
    old = folder.absolute().with_name(f"{folder.name}.old")
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return old


def check_replaceable(folder: Path) -> None:
    """Raise ModelError when `folder` holds something that is not a model: it shall not be lost."""
    if folder.exists() and not (folder.is_dir() and _is_model_or_empty(folder)):
        raise ModelError(
            f"{folder} exists and is not a model, so no model is written there.",
            "Give another folder with -o.",
        )


def _is_model_or_empty(folder: Path) -> bool:
    return (folder / _CARD).is_file() or (folder / "config.json").is_file() or not any(folder.iterdir())


def read_card(folder: Path) -> GenerationSettings | None:
    """Return the settings a checkpoint was trained with, or None for a model made elsewhere.

    Raises ModelError when it was trained on another prompt version or a file is damaged, UsageError
    when it has settings that are not known here.
    """
    path = folder / _CARD
    if not path.is_file():
        return None
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        version, sums, values = card["prompt_version"], dict(card["sha256"]), dict(card["generation"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is damaged: {error!r}.", _AGAIN) from error
    if version != PROMPT_VERSION:
        raise ModelError(
            f"{folder} was trained on prompt version {version}, "
            f"and this rag_chat writes version {PROMPT_VERSION}.",
            "Train it again with: rag-chat train DIALOGUES -i INDEX -o MODEL",
        )
    for name, wanted in sums.items():
        weights = folder / name
        if not weights.is_file() or _sha256(weights) != wanted:
            raise ModelError(f"{weights} is missing or damaged: its checksum does not match.", _AGAIN)
    return from_mapping(GenerationSettings, values)


def keep_calibration(folder: Path, calibration: Mapping[str, Any]) -> None:
    """Write when to abstain into the card; without a threshold the model decides as it was trained to."""
    path = folder / _CARD
    card = json.loads(path.read_text(encoding="utf-8"))
    card["abstention"] = dict(calibration)
    card["generation"]["abstain_bias"] = 0.0 if calibration["threshold"] is None else NEVER_ABSTAIN
    fresh = path.with_name(f"{_CARD}.new")
    fresh.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    fresh.replace(path)


def read_abstention(folder: Path) -> Mapping[str, Any] | None:
    """Return what `keep_calibration` wrote into the card; None where there is none."""
    path = folder / _CARD
    if not path.is_file():
        return None
    kept: Mapping[str, Any] | None = json.loads(path.read_text(encoding="utf-8")).get("abstention")
    return kept


def card_hash(folder: Path) -> str:
    """Return the SHA-256 of a checkpoint's card, which holds those of its weights; "" for another model."""
    return _sha256(folder / _CARD) if (folder / _CARD).is_file() else ""


def _weights(folder: Path) -> list[Path]:
    """The files of a model that have checksums; an n-gram model's weights are counts."""
    return sorted([*folder.glob("*.safetensors"), *folder.glob("counts.json")])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
