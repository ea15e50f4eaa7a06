"""The FAISS file: made from the stored vectors, and made again when in doubt."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from io import BufferedReader
from pathlib import Path

import numpy as np

from rag_chat.config import IndexSettings
from rag_chat.errors import IndexCorrupt, IndexLocked, IndexWriteFailed
from rag_chat.index.database import DATABASE_FILE, MANIFEST_FILE, VECTORS_FILE, Database
from rag_chat.index.dense import DenseIndex, Kind, choose
from rag_chat.index.faults import write_errors
from rag_chat.index.lock import writer_lock
from rag_chat.index.store import Store

LAG = 50
"""The file may lack one passage for so many that it has: adding a few does not write all of it again. Who
opens it adds them in memory. What was removed is never left in it."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the FAISS file was made from: index, set of vectors and generation (`built`); and its own bytes.

    `last` is the highest id in it, or 0. `generation` is the last commit when the manifest was written.
    """

    index: str
    vectors: str
    generation: int
    built: int
    kind: Kind
    recall: float | None
    count: int
    bytes: int
    sha256: str
    last: int


class Derived:
    """The FAISS index of a store, in memory and on disk, always of the store's own generation."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.database.path.parent
        self._dense: DenseIndex | None = None
        self._state = ("", -1)

    def current(self, settings: IndexSettings) -> DenseIndex:
        """Return the index of the state that is being read; inside a snapshot, to be used there.

        It comes from memory, from the file, or from the vectors, and in the last case is written
        for the next reader, unless the file is near enough, another process is writing or has written a
        later one, or the folder is read-only.
        """
        dense, worth_writing = self._current(settings)
        if worth_writing:
            with suppress(IndexLocked, IndexWriteFailed), writer_lock(self._folder, patience=0):
                manifest = read_manifest(self._folder)
                if manifest is None or manifest.generation <= self._state[1]:
                    self._write(dense)
        return dense

    def publish(self, settings: IndexSettings) -> None:
        """Write the index of the state that is being read, where the file is not near it already.

        Inside a snapshot; the caller holds the lock.
        """
        manifest = read_manifest(self._folder)
        generation = self._store.database.meta("generation")
        if manifest is None or not self._near(manifest, settings):
            dense, _ = self._current(settings)
            self._write(dense)
        elif manifest.generation != generation:
            with write_errors(self._folder):
                _write_manifest(self._folder, replace(manifest, generation=generation))

    def forget(self) -> None:
        """Drop it, so that it is made again; the caller holds the lock."""
        self._dense = None
        with write_errors(self._folder):
            (self._folder / MANIFEST_FILE).unlink(missing_ok=True)

    def _current(self, settings: IndexSettings) -> tuple[DenseIndex, bool]:
        """Return the index, and whether the file should be made to hold it."""
        state = (self._store.database.meta("vectors"), self._store.database.meta("generation"))
        if self._dense is None or self._state[0] != state[0]:
            self._load(state[0])
        held = self._dense
        if held is not None and self._state == state and held.kind == choose(settings.index_type, len(held)):
            return held, False
        self._dense = self._caught_up(held, settings)
        self._state = state
        manifest = read_manifest(self._folder)
        return self._dense, held is None or manifest is None or not self._near(manifest, settings)

    def _near(self, manifest: Manifest, settings: IndexSettings) -> bool:
        """Whether the file holds nothing but what is stored, and lacks little of it (see LAG)."""
        if manifest.vectors != self._store.database.meta("vectors"):
            return False
        file = self._folder / VECTORS_FILE
        if not file.is_file() or file.stat().st_size != manifest.bytes:  # a kill came between the two
            return False
        if manifest.built == self._store.database.meta("generation"):
            return True
        ids = self._store.passage_ids()
        held = int(np.searchsorted(ids, manifest.last, side="right"))
        if held != manifest.count:  # an id is never used again: some of those it holds are gone
            return False
        kind = choose(settings.index_type, len(ids))
        return kind == manifest.kind != "hnsw" and (len(ids) - held) * LAG <= held

    def _load(self, vectors: str) -> None:
        self._dense = None
        manifest = read_manifest(self._folder)
        while manifest and manifest.vectors == vectors:
            self._state = (manifest.vectors, manifest.built)
            self._dense = read_faiss(self._folder, manifest)
            before, manifest = manifest, read_manifest(self._folder)
            if self._dense is not None or manifest == before:
                return  # or else a writer has put the next one in place meanwhile

    def _write(self, dense: DenseIndex) -> None:
        write_faiss(self._folder, dense, self._store.database.meta("index"), *self._state)

    def _caught_up(self, dense: DenseIndex | None, settings: IndexSettings) -> DenseIndex:
        """Add and remove what changed, or build anew where that is not possible (or not less work).

        Ids are never used twice and a passage's vector never changes, so comparing ids is enough.
        """
        now = self._store.passage_ids()
        kind = choose(settings.index_type, len(now))
        if dense is not None and dense.kind == kind != "hnsw":
            had = dense.ids
            gone = np.setdiff1d(had, now, assume_unique=True)
            new = np.setdiff1d(now, had, assume_unique=True)
            if len(gone) + len(new) <= len(had):
                dense.remove(gone)
                if len(new):
                    dense.add(self._store.vectors(new)[1], new)
                return dense
        ids, vectors = self._store.vectors()
        return DenseIndex.build(vectors, ids, settings.index_type, settings.recall)


def check_agreement(database: Database, manifest: Manifest | None) -> None:
    """Raise IndexCorrupt when the database is not that of the manifest, or is older.

    The manifest must have been read first: it is written after the commit that it names.
    """
    if manifest is None:
        return
    if manifest.index != database.meta("index"):
        reason = f"it belongs to another index than {MANIFEST_FILE}"
    elif manifest.generation > database.meta("generation"):
        reason = f"it lacks the commits up to {manifest.generation}, which {MANIFEST_FILE} names"
    else:
        return
    go_on = f"rm {database.path.parent / MANIFEST_FILE}"
    raise IndexCorrupt(
        f"{database.path} is damaged: {reason}.",
        f"Put back the right {DATABASE_FILE}; or, to go on with this one, run: {go_on}",
    )


def write_faiss(folder: Path, dense: DenseIndex, index: str, vectors: str, generation: int) -> None:
    """Put the FAISS file and then its manifest in place, each whole or not at all."""
    with write_errors(folder):
        size, digest = _replace(folder / VECTORS_FILE, dense.write)
        last = int(dense.ids.max(initial=0))
        manifest = Manifest(
            index, vectors, generation, generation, dense.kind, dense.recall, len(dense), size, digest, last
        )
        _write_manifest(folder, manifest)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    content = asdict(manifest)
    text = json.dumps({**content, "checksum": _checksum(content)}, indent=2) + "\n"
    _replace(folder / MANIFEST_FILE, lambda path: path.write_text(text, encoding="utf-8"))


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest, None when it is missing or damaged."""
    try:
        content = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        if content.pop("checksum") != _checksum(content):
            return None
        earlier = {"built": content["generation"], "last": -1}  # before a file could lag
        return Manifest(**{**earlier, **content})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def read_faiss(folder: Path, manifest: Manifest) -> DenseIndex | None:
    """Return the FAISS index, None when its file is missing or not the one of the manifest."""
    path = folder / VECTORS_FILE
    try:
        with path.open("rb") as file:
            opened = os.fstat(file.fileno())
            if opened.st_size != manifest.bytes or _digest(file) != manifest.sha256:
                return None
            dense = DenseIndex.read(path, manifest.kind, manifest.recall)
            if not os.path.samestat(opened, path.stat()):  # a writer has replaced the file digested
                return None
    except (OSError, RuntimeError):
        return None
    return dense if len(dense) == manifest.count else None


def _replace(path: Path, write: Callable[[Path], object]) -> tuple[int, str]:
    """Write a file beside `path`, sync it and move it into place. Returns its size and SHA-256."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        write(fresh)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
            size, digest = os.fstat(file.fileno()).st_size, _digest(file)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return size, digest


def _digest(file: BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum(content: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
