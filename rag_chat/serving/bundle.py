"""A bot in one file: index, weights and licences, with a manifest of what each file must be.

The manifest's hashes tell damage and mix-ups, not who made the bundle: take bundles from whom you trust. A
bundle that was tampered with still cannot write outside its folder, or fill the disk.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shutil
import sqlite3
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_chat import __version__
from rag_chat.config import PACKAGED_EMBEDDER
from rag_chat.errors import RagChatError, UsageError
from rag_chat.generation.extractive import EXTRACTIVE
from rag_chat.generation.seq2seq import PACKAGED_READER, packaged_reader
from rag_chat.index.database import DATABASE_FILE
from rag_chat.index.lock import LOCK_FILE
from rag_chat.retrieval.index import Index

FORMAT = 1
MANIFEST = "bundle.json"
MANIFEST_BYTES = 1_000_000  # at most
FILES = 1000  # at most
EXPANSION = 100  # unpacked bytes for each packed byte, at most: an index of text takes 3 to 10

_PART = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_PASSING = (LOCK_FILE, ".new", "-wal", "-shm", "-journal")  # of a running process, not of the index
_STORED = (".safetensors", ".faiss")  # numbers hardly get smaller
_EPOCH = (1980, 1, 1, 0, 0, 0)  # so that the same bot gives the same file
_CHUNK = 1 << 20
_WRONG = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What zipfile and json raise for damaged bytes."""


class BundleError(RagChatError):
    """A bundle is damaged, or is none."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Where the parts of a bundle are. `embedder`: None for the packaged one."""

    index: Path
    model: str
    embedder: Path | None


def make_bundle(index: Index, model: str, output: Path) -> dict[str, Any]:
    """Write a bundle, whole or not at all, and return its manifest.

    The index is checked first. An embedder of one's own travels along; a name on a hub cannot. Raises
    IndexCorrupt, UsageError.
    """
    index.verify()
    with tempfile.TemporaryDirectory(dir=output.absolute().parent, prefix=".bundle-") as temporary:
        copy = Path(temporary) / DATABASE_FILE
        with closing(sqlite3.connect(copy)) as target, index.store.database.snapshot() as source:
            source.backup(target)
        files = {f"index/{DATABASE_FILE}": copy}
        for path in sorted(index.path.iterdir()):
            if path.is_file() and path.name != DATABASE_FILE and not path.name.endswith(_PASSING):
                files[f"index/{path.name}"] = path
        weights = _model_folder(model)
        inside = f"model/{weights.absolute().name}" if weights else ""  # the name that clients will see
        files |= _folder(inside, weights) if weights else {}
        embedder = _embedder_folder(index)
        files |= _folder(f"embedder/{embedder.name}", embedder) if embedder else {}
        files["licences/rag_chat.txt"] = _licence(Path(temporary))
        manifest = {
            "format": FORMAT,
            "rag_chat": __version__,
            "model": inside or model,
            "embedder": embedder.name if embedder else None,
            "files": {name: _entry(path) for name, path in files.items()},
        }
        packed = Path(temporary) / "packed.zip"
        _write(packed, manifest, files)
        packed.replace(output)
    return manifest


@contextmanager
def unpacked(bundle: Path) -> Iterator[Unpacked]:
    """Check a bundle and unpack it for as long as it is used.

    Raises BundleError, before anything of it is used, for a file that is missing, unnamed, changed, a link,
    or outside of its folder.
    """
    with tempfile.TemporaryDirectory(prefix="rag-chat-") as temporary:
        folder = Path(temporary)
        try:
            with zipfile.ZipFile(bundle) as archive:
                manifest = _read_manifest(bundle, archive)
                for name, entry in manifest["files"].items():
                    _extract(bundle, archive, name, entry, folder)
        except _WRONG as error:
            raise _damaged(bundle, str(error) or repr(error)) from error
        model = str(manifest["model"])
        yield Unpacked(
            index=folder / "index",
            model=str(folder / model) if model.startswith("model/") else model,
            embedder=folder / "embedder" / manifest["embedder"] if manifest["embedder"] else None,
        )


def _model_folder(model: str) -> Path | None:
    if model == PACKAGED_READER:
        return packaged_reader()
    if Path(model).is_dir():
        return Path(model)
    if model == EXTRACTIVE or ":" in model:
        return None
    raise UsageError(
        f"The model {model!r} is no folder, so its weights cannot be bundled.",
        f"Run rag-chat models download {model}, then bundle it with -m {model.rpartition('/')[2]}.",
    )


def _embedder_folder(index: Index) -> Path | None:
    """Where the index's embedder is, None for the packaged one."""
    name = index.settings.embedder
    if name == PACKAGED_EMBEDDER:
        return None
    if name and Path(name).is_dir():  # "" is an embedder that was given as an object
        return Path(name)
    raise UsageError(
        f"The embedder {index.identity.name!r} is no folder, so its weights cannot be bundled.",
        f"Save it in a folder DIR, then: rag-chat index rebuild {index.path} --embedder DIR",
    )


def _folder(place: str, folder: Path) -> dict[str, Path]:
    """The files of a folder by their names in the bundle; hidden ones stay behind."""
    found = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    shown = [path for path in found if not any(part.startswith(".") for part in path.parts)]
    return {f"{place}/{path.as_posix()}": folder / path for path in shown}


def _licence(temporary: Path) -> Path:
    """The licence of this library, from its checkout or its installation."""
    beside = Path(__file__).parents[2] / "LICENSE"
    if beside.is_file():
        return beside
    found = importlib.metadata.files("rag-chat") or []
    text = "\n".join(path.read_text() for path in found if path.name == "LICENSE")
    place = temporary / "LICENSE"
    place.write_text(text or "rag_chat is under the Apache License 2.0.\n", encoding="utf-8")
    return place


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _write(packed: Path, manifest: dict[str, Any], files: dict[str, Path]) -> None:
    with zipfile.ZipFile(packed, "w", allowZip64=True) as archive:
        text = json.dumps(manifest, indent=2) + "\n"
        archive.writestr(zipfile.ZipInfo(MANIFEST, _EPOCH), text, zipfile.ZIP_DEFLATED)
        for name, path in files.items():
            if not _NAME.fullmatch(name):
                raise UsageError(f"{name!r} cannot be the name of a file in a bundle.", "Rename it.")
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_STORED if path.suffix in _STORED else zipfile.ZIP_DEFLATED
            with path.open("rb") as source, archive.open(info, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, _CHUNK)


def _read_manifest(bundle: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    """Return the manifest of an archive that holds what it names, and nothing that could do harm."""
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if names[:1] != [MANIFEST] or infos[0].file_size > MANIFEST_BYTES:
        raise _damaged(bundle, f"it does not begin with a {MANIFEST}")
    with archive.open(infos[0]) as file:
        manifest = json.loads(file.read(MANIFEST_BYTES))
    if manifest["format"] != FORMAT:
        raise BundleError(
            f"{bundle} has format {manifest['format']}; this rag-chat reads {FORMAT}.",
            "Run: pip install --upgrade rag-chat",
        )
    files = manifest["files"]
    if sorted(names[1:]) != sorted(files) or len(names) > FILES:
        raise _damaged(bundle, "it does not hold the files of its manifest")
    for info in infos[1:]:
        linked = stat.S_ISLNK(info.external_attr >> 16)
        if not _NAME.fullmatch(info.filename) or linked or info.flag_bits & 1:
            raise _damaged(bundle, f"{info.filename!r} is no plain file in its folder")
    total = sum(int(entry["bytes"]) for entry in files.values())
    if total > EXPANSION * bundle.stat().st_size or any(int(entry["bytes"]) < 0 for entry in files.values()):
        raise _damaged(bundle, f"it would unpack to {total:,} bytes")
    return dict(manifest)


def _extract(bundle: Path, archive: zipfile.ZipFile, name: str, entry: dict[str, Any], folder: Path) -> None:
    """Write one file, never more of it than the manifest says, and hold it against its hash."""
    place, size, digest = folder / name, 0, hashlib.sha256()
    place.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as source, place.open("xb") as target:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > entry["bytes"]:
                raise _damaged(bundle, f"{name} is longer than its manifest says")
            digest.update(chunk)
            target.write(chunk)
    if digest.hexdigest() != entry["sha256"]:
        raise _damaged(bundle, f"{name} does not match its checksum")


def _damaged(bundle: Path, reason: str) -> BundleError:
    return BundleError(
        f"{bundle} is no sound bundle: {reason}.", "Make it again: rag-chat bundle -i DIR -o BUNDLE"
    )
