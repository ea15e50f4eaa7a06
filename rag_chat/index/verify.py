"""The complete check of an index: everything stored, held against everything it must agree with."""

from __future__ import annotations

import numpy as np

from rag_chat.errors import IndexCorrupt
from rag_chat.index.database import DATABASE_FILE, MANIFEST_FILE, VECTORS_FILE
from rag_chat.index.derived import read_faiss, read_manifest
from rag_chat.index.faults import corrupt
from rag_chat.index.rows import tags_of
from rag_chat.index.store import Store


def verify(store: Store) -> list[str]:
    """Return what was checked; raises IndexCorrupt for the first thing that is wrong."""
    with store.database.snapshot():
        return [
            _database(store),
            _documents(store),
            _vectors(store),
            _tags(store),
            _lexical(store),
            _faiss(store),
        ]


def _database(store: Store) -> str:
    with store.database.snapshot() as connection:
        for (message,) in connection.execute("PRAGMA integrity_check(1)"):
            if message != "ok":
                raise corrupt(store.database.path, message)
        if connection.execute("PRAGMA foreign_key_check").fetchone():
            raise corrupt(store.database.path, "rows refer to rows that are not there")
        for (key,) in connection.execute("SELECT key FROM meta").fetchall():
            store.database.meta(key)
    return f"{DATABASE_FILE}: its structure is sound"


def _documents(store: Store) -> str:
    texts: dict[str, str | None] = {}
    passages = 0
    for _, passage in store.all_passages():
        if passage.source not in texts:  # the passages of a document follow each other
            texts = {passage.source: store.text(passage.source)}
        text = texts[passage.source]
        if text is None or text[passage.start : passage.end] != passage.text:
            raise corrupt(store.database.path, f"{passage.id} is not the span it names")
        passages += 1
    for source in store.states():
        store.text(source)
    if passages != store.count_passages():
        raise corrupt(store.database.path, "some of its passages are missing")
    return f"{DATABASE_FILE}: {passages} passages and their documents match their checksums"


def _vectors(store: Store) -> str:
    ids, vectors = store.vectors()
    if not np.array_equal(ids, store.passage_ids()):
        raise corrupt(store.database.path, "passages and vectors are not the same in number")
    if len(ids) and vectors.shape[1] != store.database.meta("embedder")["dimension"]:
        raise corrupt(store.database.path, "the vectors do not have the embedder's dimension")
    return f"{DATABASE_FILE}: {len(ids)} vectors match their checksums"


def _tags(store: Store) -> str:
    expected: dict[tuple[str, str], tuple[int, int]] = {}
    for i, passage in store.all_passages():
        for key, value in tags_of(passage).items():
            rows, total = expected.get((f"tag {key}", value), (0, 0))
            expected[f"tag {key}", value] = (rows + 1, total + i)
    with store.database.snapshot() as connection:
        for query in (
            "SELECT 'tag ' || key, value, count(*), sum(passage) FROM tags GROUP BY key, value",
            "SELECT name, value, rows, total FROM tallies WHERE name LIKE 'tag %'",
        ):
            if {tuple(row[:2]): tuple(row[2:]) for row in connection.execute(query)} != expected:
                raise corrupt(store.database.path, "its tags are not the metadata of its passages")
    return f"{DATABASE_FILE}: {len(expected)} tags match the metadata"


def _lexical(store: Store) -> str:
    store.check_lexical()
    with store.database.snapshot() as connection:
        found = [row[0] for row in connection.execute("SELECT rowid FROM lexical ORDER BY rowid")]
    if found != store.passage_ids().tolist():
        raise _derived(store, DATABASE_FILE, "its lexical table does not hold the passages")
    return f"{DATABASE_FILE}: the lexical table holds {len(found)} passages"


def _faiss(store: Store) -> str:
    folder = store.database.path.parent
    manifest = read_manifest(folder)
    if manifest is None:
        raise _derived(store, MANIFEST_FILE, "it is missing or not readable")
    dense = read_faiss(folder, manifest)
    if dense is None:
        raise _derived(store, VECTORS_FILE, "it is not the file that the manifest describes")
    ids, vectors = store.vectors()
    shared, rows, _ = np.intersect1d(ids, dense.ids, assume_unique=True, return_indices=True)
    state = (store.database.meta("vectors"), store.database.meta("generation"))
    if (manifest.vectors, manifest.built) == state and len(shared) != max(len(ids), len(dense)):
        raise _derived(store, VECTORS_FILE, "it does not hold the passages")
    if manifest.vectors != state[0] or len(shared) < len(dense):  # the writer was killed, or is at it
        return f"{VECTORS_FILE}: whole, of another commit; the next search brings it up to date"
    held = dense.vectors(shared)
    if held is not None and not np.array_equal(held, vectors[rows]):
        raise _derived(store, VECTORS_FILE, "its vectors are not those of the passages")
    later = len(ids) - len(shared)
    rest = f"; {later} more are added when it is opened" if later else ""
    return f"{VECTORS_FILE}: {len(shared)} vectors, equal to those stored{rest}"


def _derived(store: Store, file: str, reason: str) -> IndexCorrupt:
    return corrupt(store.database.path.with_name(file), reason, derived=True)
