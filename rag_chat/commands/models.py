"""`rag-chat models`: what there is to answer with."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from rag_chat.commands import offline
from rag_chat.commands.opening import models_folder, resolve_model
from rag_chat.commands.options import FOLDER, json_option, option
from rag_chat.commands.printing import emit, say, table
from rag_chat.config import PACKAGED_EMBEDDER
from rag_chat.errors import ModelError, RagChatError

READER, EXTRACTIVE = "reader", "extractive"
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model"]  # no pickles: they can run code when loaded
_MEGABYTE = 1_000_000


@click.group()
def models() -> None:
    """List, inspect and download models."""


@models.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the models that need no network."""
    found = list(_installed())
    if as_json:
        emit(found)
        return
    for one in found:
        size = f"{one['bytes'] / _MEGABYTE:.0f} MB" if one["bytes"] else ""
        count = f"{one['parameters'] / 1e6:.1f} M parameters" if one["parameters"] else ""
        prompt = f"prompt version {one['prompt_version']}" if one["prompt_version"] else ""
        facts = ", ".join(fact for fact in (size, count, prompt, one["path"]) if fact)
        say(f"{one['name']:<20} {one['kind']:<9} {facts}".rstrip())


@models.command()
@click.argument("model")
@json_option
def info(model: str, as_json: bool) -> None:
    """Say what a model is, from the files of its folder."""
    facts = describe(model, "reader")
    if as_json:
        emit(facts)
    else:
        table(facts)


@models.command()
@click.argument("name")
@option("-o", "--output", type=FOLDER, metavar="DIR", help="Where to put it; by default where -m finds it.")
def download(name: str, output: Path | None) -> None:
    """Download a model from the Hugging Face hub: safetensors only."""
    if offline.enforced():
        raise RagChatError(
            f"--offline: {name!r} was not downloaded.",
            "Leave out --offline (RAG_CHAT_OFFLINE), or copy the folder of the model here.",
        )
    from huggingface_hub import snapshot_download

    folder = output or models_folder() / name.rpartition("/")[2]
    try:
        snapshot_download(name, local_dir=folder, allow_patterns=_WANTED)
    except Exception as error:  # the hub's client raises several kinds, the network's among them
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{name!r} could not be downloaded: {reason}",
            "Check the name (as in google/flan-t5-small) and the network, or copy the folder here.",
        ) from error
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{name!r} has no safetensors weights.", "Choose a model that has them.")
    say(str(folder))


def describe(model: str, kind: str) -> dict[str, Any]:
    """Return what the files of a model tell; raises ModelError when there is no such folder."""
    if model == EXTRACTIVE:
        return {"name": model, "kind": kind, "path": "", "bytes": 0, "parameters": 0, "prompt_version": None}
    folder = _folder(model)
    config = _read(folder / "config.json")
    if not config:
        raise ModelError(f"There is no model in {folder}.", "See what there is: rag-chat models list")
    card, training = _read(folder / "rag_chat.json"), _read(folder / "training.json")
    weights = sorted(folder.glob("*.safetensors"))
    return {
        "name": model,
        "kind": kind,
        "path": str(folder),
        "bytes": sum(path.stat().st_size for path in weights),
        "parameters": sum(map(_parameters, weights)),
        "prompt_version": card.get("prompt_version"),
        "architecture": ", ".join(config.get("architectures") or []) or config.get("model_type"),
        "vocabulary": config.get("vocab_size") or (config.get("encoder") or {}).get("vocab_size"),
        "generation": card.get("generation"),
        "training": training or None,
    }


def _installed() -> Iterator[dict[str, Any]]:
    for name, kind in ((READER, "reader"), (EXTRACTIVE, "reader"), (PACKAGED_EMBEDDER, "embedder")):
        try:
            yield describe(name, kind)
        except ModelError:  # it is not in this installation; `doctor` tells how to mend that
            continue
    downloaded = models_folder()
    for folder in sorted(downloaded.iterdir()) if downloaded.is_dir() else ():
        if (folder / "config.json").is_file():
            yield describe(folder.name, "reader")


def _folder(model: str) -> Path:
    if model == READER:
        from rag_chat.generation.seq2seq import packaged_reader

        return packaged_reader()
    if model == PACKAGED_EMBEDDER:
        from rag_chat.index.packaged import packaged_path

        return packaged_path()
    return Path(resolve_model(model))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", "Copy the model again.") from error
    return found if isinstance(found, dict) else {}


def _parameters(weights: Path) -> int:
    """Count the numbers in a safetensors file, from its header: 8 bytes of length, then JSON."""
    try:
        with weights.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{weights} is damaged: {error}", "Copy the model again.") from error
