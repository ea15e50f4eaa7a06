"""`rag-chat doctor`: what works here, what does not, and how to mend it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Literal

import click

from rag_chat import __version__
from rag_chat.commands import offline
from rag_chat.commands.options import json_option
from rag_chat.commands.printing import emit, say
from rag_chat.errors import RagChatError

_PACKAGES = ("torch", "transformers", "sentence-transformers", "faiss-cpu", "langchain", "numpy", "click")
_EXTRAS = {
    "pdf": ("pypdf",),
    "docx": ("docx",),
    "html": ("selectolax",),
    "yaml": ("yaml",),
    "chat": ("prompt_toolkit",),
    "train": ("accelerate", "matplotlib", "peft"),
    "serve": ("fastapi", "prometheus_client", "uvicorn"),
    "fast": ("onnx",),
    "eval": ("ir_measures", "rouge_score", "sacrebleu"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `ok`; `--`: something optional is missing; `!!`: something essential is broken."""

    status: Literal["ok", "--", "!!"]
    name: str
    detail: str
    fix: str = ""


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Check this installation, and say how to mend it."""
    checks = [check for one in _CHECKS for check in one()]
    broken = sum(check.status == "!!" for check in checks)
    if as_json:
        emit({"ok": not broken, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            say(f"{check.status}  {check.name}: {check.detail}")
            if check.fix:
                say(f"    {check.fix}")
    if broken:
        raise RagChatError(
            f"Essential checks that failed: {broken}.", "Each line marked !! says how to mend it."
        )


def _system() -> Iterator[Check]:
    yield Check("ok", "rag-chat", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    if offline.enforced():
        network = "no connections to other machines (--offline)"
    else:
        hub = " (but HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        network = f"connections are allowed{hub}; --offline forbids them"
    yield Check("ok", "network", network)


def _packages() -> Iterator[Check]:
    for name in _PACKAGES:
        try:
            yield Check("ok", name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Check("!!", name, "not installed", f"pip install {name}")
    for extra, modules in _EXTRAS.items():
        if all(importlib.util.find_spec(module) for module in modules):
            yield Check("ok", f"extra {extra}", "installed")
        else:
            yield Check("--", f"extra {extra}", "not installed", f"pip install 'rag-chat[{extra}]'")


def _device() -> Iterator[Check]:
    try:
        import torch
    except (ImportError, OSError) as error:
        fix = "pip install --force-reinstall torch"
        yield Check("!!", "device", f"torch cannot be imported: {error}", fix)
        return
    if torch.cuda.is_available():
        bf16 = "with bfloat16" if torch.cuda.is_bf16_supported() else "without bfloat16"
        yield Check("ok", "device", f"cuda: {torch.cuda.get_device_name()}, {bf16}")
    elif torch.backends.mps.is_available():
        yield Check("ok", "device", "mps (Apple), in float32")
    else:
        yield Check("ok", "device", f"cpu, {torch.get_num_threads()} threads")


def _embedder() -> Iterator[Check]:
    from rag_chat.index.packaged import verify_packaged

    yield _tried("packaged embedder", "there, and its checksum is right", verify_packaged)


def _reader() -> Iterator[Check]:
    from rag_chat.generation.checkpoint import read_card
    from rag_chat.generation.seq2seq import packaged_reader

    folder = packaged_reader()
    if not (folder / "config.json").is_file():
        fix = "pip install --force-reinstall rag-chat; meanwhile answer with -m extractive"
        yield Check("!!", "packaged reader", f"not in {folder}", fix)
        return
    yield _tried("packaged reader", "there, and its checksums are right", lambda: read_card(folder))


def _sqlite() -> Iterator[Check]:
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute("CREATE VIRTUAL TABLE words USING fts5 (text)")
        except sqlite3.OperationalError:
            fix = "Use a Python whose SQLite has it, such as that of python.org or conda-forge."
            yield Check("!!", "sqlite", f"{sqlite3.sqlite_version} without FTS5", fix)
            return
    yield Check("ok", "sqlite", f"{sqlite3.sqlite_version} with FTS5")


def _data_folder() -> Iterator[Check]:
    from rag_chat.conversation.sessions import default_path

    folder = default_path().parent
    place = next(one for one in (folder, *folder.parents) if one.exists())
    if place.is_dir() and os.access(place, os.W_OK):
        yield Check("ok", "data folder", str(folder))
    else:
        fix = "Allow writing there, or name another folder in RAG_CHAT_HOME."
        yield Check("!!", "data folder", f"{folder} cannot be written", fix)


def _tried(name: str, detail: str, action: Callable[[], object]) -> Check:
    try:
        action()
    except RagChatError as error:
        return Check("!!", name, error.problem, error.fix)
    return Check("ok", name, detail)


_CHECKS = (_system, _packages, _device, _embedder, _reader, _sqlite, _data_folder)
